// @ts-check
// The criterion and what it asks: shares of need at every threshold, columns at this one, a sentence, a command.

function showNeed() {
  const section = byId("need");
  if (!criteria.length || !N) {
    const why = N
      ? "The tables have no measure to hold a threshold against (they were made with --no-losses)."
      : "No image has tokens, so no need can be counted.";
    section.querySelector(".body").replaceChildren(h("p", { class: "empty" }, why));
    return;
  }
  showCriterion();
  showMap();
  showColumns();
  follow(["tsc", "op", "thr", "filters", "query"], () => {
    saySentence();
    byId("need-line").textContent = commandLine();
    byId("need-command").hidden = !commandLine();
  });
  const copy = byId("copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(commandLine());
      copy.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(byId("need-line")); // no clipboard here: ready for Ctrl+C
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
}

/** The choice of a measure, the way it is compared, and a threshold: a slider and the number itself. */
function showCriterion() {
  const [choice, way, slider, number] = ["tsc", "op", "thr", "thr-number"].map(byId);
  choice.append(...columnOptions(criteria));
  choice.addEventListener("change", () => {
    const column = /** @type {Column} */ (columns.get(choice.value));
    choose({ tsc: column.key, op: usualOperator(column), thr: startOf(column) });
  });
  way.append(...Object.entries(SIGNS).map(([value, sign]) => h("option", { value }, sign)));
  way.addEventListener("change", () => choose({ op: way.value }));
  slider.addEventListener("input", () => choose({ thr: thresholdsOf(criterion())[Number(slider.value)] }));
  number.addEventListener("change", () => {
    if (number.value !== "" && Number.isFinite(Number(number.value))) choose({ thr: Number(number.value) });
  });
  follow(["tsc", "op", "thr"], () => {
    const all = thresholdsOf(criterion());
    choice.value = state.tsc;
    way.value = state.op;
    slider.max = all.length - 1;
    slider.value = nearest(all, state.thr);
    number.value = state.thr;
    slider.setAttribute("aria-valuetext", `${nameOf(criterion())} ${OPERATOR_WORDS[state.op]} ${digits(state.thr)}`);
    byId("thr-axis").replaceChildren(
      h("span", {}, digits(all[0])),
      h("span", {}, `threshold of ${nameOf(criterion())}`),
      h("span", {}, digits(all[all.length - 1])),
    );
  });
}

/** Options of a select, sorted by kind. @param {Column[]} list */
function columnOptions(list) {
  const kinds = {
    measure: "At every budget",
    number: "One number per image",
    group: "Groups",
    guess: "Seen by a network",
  };
  return Object.entries(kinds).flatMap(([kind, name]) => {
    const own = list.filter((column) => column.kind === kind);
    return own.length
      ? [
          h(
            "optgroup",
            { label: name },
            own.map((column) => h("option", { value: column.key }, column.label)),
          ),
        ]
      : [];
  });
}

/** The place of the number that is nearest. @param {number[]} all @param {number} value */
function nearest(all, value) {
  let best = 0;
  all.forEach((one, i) => Math.abs(one - value) < Math.abs(all[best] - value) && (best = i));
  return best;
}

/** The command that selects what the page shows, of the whole table; none for a column with one number per image. */
function commandLine() {
  const column = columns.get(state.tsc);
  if (!column || !column.perBudget) return "";
  const table = shellWord(data.path);
  if (column.key === "l1" && state.op === "<") return `alit select ${table} --tsc recon --thr ${state.thr}`;
  return `alit select ${table} --tsc '${column.key}${state.op}${state.thr}'`;
}

/** @param {string} word */
function shellWord(word) {
  return /^[\w./+:@%-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function saySentence() {
  const found = counts();
  const all = found.reduce((sum, count) => sum + count, 0);
  const spent = found.reduce((sum, count, step) => sum + count * budgets[Math.min(step, T - 1)], 0);
  const mean = spent / all;
  const never = found[NEVER];
  const filtered = state.filters.length > 0 || state.query !== "";
  const which = filtered ? `Of the ${plural(all, "image")} that pass the filters: for ` : "For ";
  const sentence = [
    which,
    `${nameOf(criterion())} ${OPERATOR_WORDS[state.op]} `,
    h("b", { class: "thr" }, digits(state.thr)),
    ", an image needs ",
  ];
  if (!all) {
    byId("need-say").replaceChildren("No image passes the filters.");
    return;
  }
  byId("need-say").replaceChildren(
    ...sentence,
    h("b", {}, `${mean.toFixed(1)} tokens`),
    " on average, ",
    h("b", {}, percent(mean / budgets[T - 1])),
    " of the largest budget; ",
    never ? h("b", {}, `${whole(never)} (${percent(never / all)})`) : "every image",
    never ? ` never ${never === 1 ? "gets" : "get"} there.` : " gets there.",
  );
}

/**
 * How many of the images that pass satisfy the criterion at some budget up to each one, at every threshold: T × J.
 * @type {() => {up: number[][], all: number}}
 */
const needsOverThresholds = remembered(["tsc", "op", "filters", "query", "step", "at"], () => {
  const column = criterion();
  const thresholds = thresholdsOf(column).map(Math.fround);
  const J = thresholds.length;
  const loosening = lowerIsBetter(state.op); // whether a larger threshold asks for less
  const meets = OPERATORS[state.op];
  const kept = passing();
  const up = budgets.map(() => new Array(J).fill(0));
  let all = 0;
  for (let row = 0; row < N; row++) {
    if (!kept[row]) continue;
    all += 1;
    let best = NaN; // the best value so far decides which thresholds are satisfied by now
    for (let t = 0; t < T; t++) {
      const value = valueAt(column, row, t);
      if (!Number.isNaN(value) && (Number.isNaN(best) || (loosening ? value < best : value > best))) best = value;
      if (Number.isNaN(best)) continue;
      let [low, high] = [0, J]; // thresholds from the strictest: how many of them are not satisfied
      while (low < high) {
        const middle = (low + high) >> 1;
        if (meets(best, thresholds[loosening ? middle : J - 1 - middle])) high = middle;
        else low = middle + 1;
      }
      if (low < J) up[t][loosening ? low : J - 1 - low] += 1;
    }
  }
  for (const row of up) {
    if (loosening) for (let j = 1; j < J; j++) row[j] += row[j - 1];
    else for (let j = J - 2; j >= 0; j--) row[j] += row[j + 1];
  }
  return { up, all };
});

/** Stacked shares over all thresholds; the strongest colour is the largest need, above it lies 'never'. */
function showMap() {
  const height = 190;
  const [left, pad] = [40, 9]; // the scale; half of the slider's thumb, so that both share one axis
  let moveLine = () => {};
  const redraw = chart(
    byId("need-map"),
    height,
    "Share of images by tokens needed, over the threshold",
    (picture, width) => {
      const { up, all } = needsOverThresholds();
      const J = thresholdsOf(criterion()).length;
      const x = (/** @type {number} */ j) => left + pad + ((width - left - 2 * pad) * j) / Math.max(J - 1, 1);
      const y = (/** @type {number} */ share) => height - (height - 2) * share;
      const places = [...Array(J).keys()];
      /** @param {number} t @returns {Points} */
      const edge = (t) => places.map((j) => [x(j), y(t < 0 || !all ? 0 : up[t][j] / all)]);
      picture.append(svg("rect", { class: "never", x: x(0), y: 2, width: x(J - 1) - x(0), height: height - 2 }));
      for (const share of [0, 0.5, 1]) {
        const shift = share === 1 ? 10 : share ? 4 : 0;
        picture.append(
          svg("text", { class: "tick", x: left, y: y(share) + shift, "text-anchor": "end" }, `${100 * share} %`),
        );
      }
      const names = [];
      for (let t = 0; t < T; t++) {
        const [upper, lower] = [edge(t), edge(t - 1)];
        const layer = svg("path", { d: area(upper, lower) });
        layer.style.fill = shade(t);
        picture.append(layer);
        names.push(layerName(t, upper, lower));
      }
      names.push(
        layerName(
          NEVER,
          places.map((j) => [x(j), 2]),
          edge(T - 1),
        ),
      );
      const mark = svg("line", { class: "threshold", y1: 0, y2: height });
      picture.append(...names.filter((name) => name !== null), mark);
      moveLine = () => {
        const place = nearest(thresholdsOf(criterion()), state.thr);
        mark.setAttribute("x1", String(x(place)));
        mark.setAttribute("x2", String(x(place)));
      };
      moveLine();
    },
  );
  follow(["tsc", "op", "filters", "query"], redraw);
  follow(["step", "at"], () => state.filters.length && redraw());
  follow(["thr"], () => moveLine());
}

/**
 * A layer's name where it has most room above, below and beside it; none where the layer is too thin.
 * @param {number} step
 * @param {Points} upper
 * @param {Points} lower
 */
function layerName(step, upper, lower) {
  const beside = 13;
  const [from, to] = [upper[0][0] + 22, upper[upper.length - 1][0] - 22];
  let best = { room: 16, x: NaN, y: NaN };
  for (let i = 0; i < upper.length; i++) {
    const x = upper[i][0];
    if (x < from || x > to || lower[i][1] - upper[i][1] <= best.room + 0.5) continue;
    let [top, bottom] = [upper[i][1], lower[i][1]];
    for (const by of [-1, 1]) {
      for (let j = i; j in upper && Math.abs(upper[j][0] - x) <= beside; j += by) {
        top = Math.max(top, upper[j][1]);
        bottom = Math.min(bottom, lower[j][1]);
      }
    }
    if (bottom - top > best.room + 0.5) best = { room: bottom - top, x, y: (top + bottom) / 2 };
  }
  if (Number.isNaN(best.x)) return null;
  const dark = step !== NEVER && step >= T / 2;
  return svg(
    "text",
    { class: dark ? "layer on-high" : "layer", x: best.x, y: best.y + 4, "text-anchor": "middle" },
    needName(step),
  );
}

/** A column for each need, which is a button: pressed, only those images are shown, and they are brought into view. */
function showColumns() {
  const list = [...budgets.keys(), NEVER].map((step) => {
    const bar = h("span", { class: "column-bar" });
    const count = h("span", { class: "column-count" });
    const press = () => {
      choose({ only: state.only === step ? null : step });
      bringImages();
    };
    const button = h(
      "button",
      { type: "button", class: step === NEVER ? "column is-never" : "column", click: press },
      h("span", { class: "column-space" }, count, bar),
      h("span", { class: "column-name" }, needName(step)),
    );
    return { step, bar, count, button };
  });
  byId("need-columns").append(...list.map((column) => column.button));
  byId("need-columns").classList.toggle("many", T > 12);
  follow(["tsc", "op", "thr", "only", "filters", "query", "colour", "step", "at"], () => {
    const found = counts();
    const most = Math.max(...found, 1);
    const all = Math.max(passed(), 1);
    const parts = columnParts();
    for (const { step, bar, count, button } of list) {
      bar.style.height = `${(82 * found[step]) / most}%`;
      bar.style.background = parts ? "none" : step === NEVER ? "" : shade(step);
      bar.replaceChildren(...(parts ? parts[step] : []));
      bar.classList.toggle("is-parted", parts !== null);
      count.textContent = whole(found[step]);
      button.setAttribute("aria-pressed", String(state.only === step));
      const tokens = step === NEVER ? "never get there" : `need ${budgets[step]} tokens`;
      button.setAttribute("aria-label", `${plural(found[step], "image")}, ${percent(found[step] / all)}, ${tokens}`);
      button.title = `${whole(found[step])} (${percent(found[step] / all)}) ${tokens}`;
    }
  });
}

/** The parts of every column by the classes that set colours, from the first at the bottom; null without colours. */
function columnParts() {
  const shown = classes();
  if (!shown) return null;
  const sizes = Array.from({ length: T + 1 }, () => new Array(shown.names.length + 1).fill(0));
  const [kept, need] = [passing(), needs()];
  for (let row = 0; row < N; row++)
    if (kept[row]) sizes[need[row]][shown.of[row] < 0 ? shown.names.length : shown.of[row]] += 1;
  return sizes.map((parts) =>
    parts
      .map((size, i) => {
        const part = h("span", { class: "column-part", title: `${shown.names[i] ?? "unknown"}: ${whole(size)}` });
        part.style.flexGrow = String(size);
        part.style.background = shown.colours[i] ?? "var(--line)";
        return size ? part : null;
      })
      .filter((part) => part !== null)
      .reverse(),
  );
}
