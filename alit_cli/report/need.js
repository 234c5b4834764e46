// The threshold and what it asks: shares of need at every threshold, columns at this one, a sentence, a command.

function showNeed() {
  const section = byId("need");
  if (!hasLoss) {
    const why = total ? "The table has no L1 columns (it was made with --no-losses), so no need can be counted." : "No image has tokens.";
    section.querySelector(".body").replaceChildren(h("p", { class: "empty" }, why));
    return;
  }
  const slider = byId("thr");
  slider.max = thresholds.length - 1;
  slider.value = state.thr;
  slider.addEventListener("input", () => choose({ thr: Number(slider.value) }));
  byId("thr-axis").append(h("span", {}, threshold(thresholds[0])), h("span", {}, "threshold of L1"), h("span", {}, threshold(thresholds.at(-1))));
  showMap();
  showColumns();
  follow(["thr"], () => {
    slider.setAttribute("aria-valuetext", `L1 below ${threshold(thresholds[state.thr])}`);
    saySentence();
    byId("need-line").textContent = `alit select ${shellWord(data.table)} --tsc recon --thr ${threshold(thresholds[state.thr])}`;
  });
  const copy = byId("copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId("need-line").textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(byId("need-line")); // no clipboard here: ready for Ctrl+C
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
}

function shellWord(word) {
  return /^[\w./+:@%-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function saySentence() {
  const found = counts();
  const spent = found.reduce((sum, count, step) => sum + count * budgets[Math.min(step, T - 1)], 0);
  const mean = spent / total;
  const never = found[NEVER];
  byId("need-say").replaceChildren(
    "For an L1 below ", h("b", { class: "thr" }, threshold(thresholds[state.thr])), ", an image needs ",
    h("b", {}, mean.toFixed(1)), " tokens on average, ", h("b", {}, percent(mean / budgets[T - 1])), " of the largest budget; ",
    never ? h("b", {}, `${whole(never)} (${percent(never / total)})`) : "every image", never ? " never get there." : " gets there.",
  );
}

/** Stacked shares over all thresholds; the strongest colour is the largest need, above it lies 'never'. */
function showMap() {
  const height = 232;
  const [left, pad] = [40, 9]; // the scale; half of the slider's thumb, so that both share one axis
  const J = thresholds.length;
  const redraw = chart(byId("need-map"), height, "Share of images by tokens needed, over the threshold", (picture, width) => {
    const x = (j) => left + pad + ((width - left - 2 * pad) * j) / Math.max(J - 1, 1);
    const y = (share) => height - (height - 2) * share;
    const every = Math.max(1, Math.floor(J / 260));
    const places = [...Array(J).keys()].filter((j) => j % every === 0 || j === J - 1);
    const edge = (t) => places.map((j) => [x(j), y(t < 0 ? 0 : facts.need[t][j] / total)]);
    picture.append(svg("rect", { class: "never", x: x(0), y: 2, width: x(J - 1) - x(0), height: height - 2 }));
    for (const share of [0, 0.5, 1]) picture.append(svg("text", { class: "tick", x: left, y: y(share) + (share === 1 ? 10 : share ? 4 : 0), "text-anchor": "end" }, `${100 * share} %`));
    const names = [];
    for (let t = 0; t < T; t++) {
      const [upper, lower] = [edge(t), edge(t - 1)];
      const layer = svg("path", { d: area(upper, lower) });
      layer.style.fill = shade(t);
      picture.append(layer);
      names.push(layerName(t, upper, lower));
    }
    names.push(layerName(NEVER, places.map((j) => [x(j), 2]), edge(T - 1)));
    const at = x(state.thr);
    picture.append(...names.filter(Boolean), svg("line", { class: "threshold", x1: at, x2: at, y1: 0, y2: height }));
  });
  follow(["thr"], redraw);
}

/** A layer's name where it has most room above, below and beside it; none where the layer is too thin. */
function layerName(step, upper, lower) {
  const beside = 13;
  const [from, to] = [upper[0][0] + beside, upper.at(-1)[0] - beside];
  let best = { room: 16 };
  for (const [x] of upper) {
    if (x < from || x > to) continue;
    const near = upper.map(([other], i) => i).filter((i) => Math.abs(upper[i][0] - x) <= beside);
    const top = Math.max(...near.map((i) => upper[i][1]));
    const bottom = Math.min(...near.map((i) => lower[i][1]));
    if (bottom - top > best.room + 0.5) best = { room: bottom - top, x, y: (top + bottom) / 2 };
  }
  if (best.x == null) return null;
  const dark = step !== NEVER && step >= T / 2;
  return svg("text", { class: dark ? "layer on-high" : "layer", x: best.x, y: best.y + 4, "text-anchor": "middle" }, needName(step));
}

/** A column for each need, which is a button: pressed, the grid shows only those images. */
function showColumns() {
  const columns = [...budgets.keys(), NEVER].map((step) => {
    const bar = h("span", { class: "column-bar" });
    if (step !== NEVER) bar.style.background = shade(step);
    const count = h("span", { class: "column-count" });
    const press = () => choose({ only: state.only === step ? null : step });
    const button = h(
      "button", { type: "button", class: step === NEVER ? "column is-never" : "column", click: press },
      h("span", { class: "column-space" }, count, bar), h("span", { class: "column-name" }, needName(step)),
    );
    return { step, bar, count, button };
  });
  byId("need-columns").append(...columns.map((column) => column.button));
  byId("need-columns").classList.toggle("many", T > 12);
  follow(["thr", "only"], () => {
    const found = counts();
    const most = Math.max(...found, 1);
    for (const { step, bar, count, button } of columns) {
      bar.style.height = `${(82 * found[step]) / most}%`;
      count.textContent = whole(found[step]);
      button.setAttribute("aria-pressed", String(state.only === step));
      const tokens = step === NEVER ? "never get there" : `need ${budgets[step]} tokens`;
      button.setAttribute("aria-label", `${plural(found[step], "image")}, ${percent(found[step] / total)}, ${tokens}`);
      button.title = `${whole(found[step])} (${percent(found[step] / total)}) ${tokens}`;
    }
  });
}
