// @ts-check
// What becomes of an outcome as tokens are spent: one budget for all, the criterion's thresholds, the best allocation.

/**
 * Something whose mean over the images is drawn. `at` gives the number of an image at a budget (NaN: unknown).
 * @typedef {{key: string, label: string, column: Column, share: boolean, lower: boolean,
 *   at: (row: number, step: number) => number, original: number | null}} Outcome
 */

/** @type {Map<string, Outcome>} */
const outcomes = new Map(measures.flatMap(outcomesOf).map((outcome) => [outcome.key, outcome]));

/** A measure's mean; of the rank of a true class the accuracies. @param {Column} column @returns {Outcome[]} */
function outcomesOf(column) {
  if (!column.key.startsWith("class_rank")) {
    const at = (/** @type {number} */ row, /** @type {number} */ step) => column.values[row * T + step];
    return [
      {
        key: column.key,
        label: column.label,
        column,
        share: false,
        lower: lowerIsBetter(column.operator),
        at,
        original: meanOf(column.originals),
      },
    ];
  }
  const network = column.key.includes("@") ? ` · ${column.key.split("@")[1]}` : "";
  return [1, 5].map((top) => {
    const hit = (/** @type {number} */ rank) => (Number.isNaN(rank) ? NaN : rank <= top ? 1 : 0);
    const at = (/** @type {number} */ row, /** @type {number} */ step) => hit(column.values[row * T + step]);
    const original = column.originals && meanOf(Float32Array.from(column.originals, hit));
    return {
      key: `top${top}:${column.key}`,
      label: `top-${top} accuracy${network}`,
      column,
      share: true,
      lower: false,
      at,
      original,
    };
  });
}

/** @param {Float32Array | Int16Array | null} values */
function meanOf(values) {
  const known = values ? Array.from(values).filter(Number.isFinite) : [];
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

const outcome = () => outcomes.get(state.toi) || outcomes.values().next().value;

/** @param {Outcome} shown @param {number} value */
const outcomeValue = (shown, value) => (shown.share ? percent(value) : digits(value));

/**
 * Tokens spent (share of the largest budget for all) and the outcome's mean, where every image has the budget that
 * `step` says. The mean is over the images with a number.
 * @param {Outcome} shown
 * @param {(row: number) => number} step
 * @returns {[number, number]}
 */
function pointOf(shown, step) {
  const kept = passing();
  let [spent, all, sum, known] = [0, 0, 0, 0];
  for (let row = 0; row < N; row++) {
    if (!kept[row]) continue;
    const t = step(row);
    spent += budgets[t];
    all += 1;
    const value = shown.at(row, t);
    if (Number.isNaN(value)) continue;
    sum += value;
    known += 1;
  }
  return [spent / all / budgets[T - 1], known ? sum / known : NaN];
}

/**
 * How much an outcome differs from one budget for all at equal tokens, with half its 95 % interval: paired by image, as
 * alit_cli/analysis/studies/paired.py pairs them, but with a normal interval instead of a bootstrap, so that it can
 * follow the threshold. The tokens that are spent vary with the images too: an image that takes more of them moves the
 * rival along its line, which is the last term below. Views of one photograph are alike, so that their terms are added
 * up before they vary. Null outside of that line, and for fewer than ten photographs.
 * @param {Outcome} shown
 * @param {(row: number) => number} step
 * @returns {{difference: number, half: number} | null}
 */
function pairedDifference(shown, step) {
  const kept = passing();
  const rows = [];
  for (let row = 0; row < N; row++) {
    if (kept[row] && budgets.every((_, t) => !Number.isNaN(shown.at(row, t)))) rows.push(row);
  }
  const photographOf = (/** @type {number} */ row) => (data.photographs ? data.photographs[row] : row);
  if (new Set(rows.map(photographOf)).size < 10) return null;
  const mean = (/** @type {number[]} */ values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const tokens = rows.map((row) => budgets[step(row)]);
  const spent = mean(tokens);
  const more = budgets.findIndex((budget) => budget >= spent);
  const fewer = Math.max(more - 1, 0);
  if (more < 0) return null;
  const gap = budgets[more] - budgets[fewer];
  const share = gap ? (spent - budgets[fewer]) / gap : 0;
  const rise = gap ? mean(rows.map((row) => shown.at(row, more) - shown.at(row, fewer))) / gap : 0;
  const parts = rows.map((row, i) => {
    const rival = (1 - share) * shown.at(row, fewer) + share * shown.at(row, more);
    return shown.at(row, step(row)) - rival - rise * (tokens[i] - spent);
  });
  const difference = mean(parts);
  /** @type {Map<number, number>} */
  const deviations = new Map();
  rows.forEach((row, i) => {
    const photograph = photographOf(row);
    deviations.set(photograph, (deviations.get(photograph) ?? 0) + parts[i] - difference);
  });
  const squares = [...deviations.values()].reduce((sum, deviation) => sum + deviation ** 2, 0);
  const variance = (squares * deviations.size) / (deviations.size - 1);
  return { difference, half: (1.96 * Math.sqrt(variance)) / rows.length };
}

const CURVE = /** @type {(keyof State)[]} */ (["tsc", "op", "toi", "filters", "query"]);
/** Points of a line: more would not be seen. */
const MOST_POINTS = 60;

/** @type {() => Points} */
const uniformLine = remembered(["toi", "filters", "query"], () => {
  const shown = outcome();
  return shown ? budgets.map((_, t) => pointOf(shown, () => t)) : [];
});

/** The criterion at thresholds from strict to loose. @type {() => Points} */
const thresholdLine = remembered(CURVE, () => {
  const shown = outcome();
  const column = criterion();
  if (!shown || !column.perBudget) return [];
  const all = thresholdsOf(column).map(Math.fround);
  const every = Math.max(1, Math.floor(all.length / MOST_POINTS));
  const meets = OPERATORS[state.op];
  const points = all
    .filter((_, i) => i % every === 0 || i === all.length - 1)
    .map((limit) =>
      pointOf(shown, (row) => {
        for (let t = 0; t < T; t++) if (meets(column.values[row * T + t], limit)) return t;
        return T - 1;
      }),
    );
  return points.filter(([, value]) => Number.isFinite(value)).sort((a, b) => a[0] - b[0]);
});

/**
 * The line of `alit select --tsc MEASURE --capacity C` for every C: each further token goes where it lowers the
 * criterion's measure most. Every image climbs the corners of its own lower convex hull.
 * @type {() => Points}
 */
const bestLine = remembered(CURVE, () => {
  const shown = outcome();
  const column = criterion();
  const kept = passing();
  const all = passed();
  if (!shown || !column.perBudget || !all) return [];
  const steps = hullSteps(column, kept);
  let [spent, sum, known] = [all * budgets[0], 0, 0];
  for (let row = 0; row < N; row++) {
    const value = kept[row] ? shown.at(row, 0) : NaN;
    if (Number.isNaN(value)) continue;
    sum += value;
    known += 1;
  }
  /** @type {Points} */
  const points = [[spent / all / budgets[T - 1], sum / known]];
  const every = Math.max(1, Math.floor(steps.length / (4 * MOST_POINTS)));
  steps.forEach(({ row, from, to }, i) => {
    const [before, after] = [shown.at(row, from), shown.at(row, to)];
    spent += budgets[to] - budgets[from];
    if (!Number.isNaN(before)) [sum, known] = [sum - before, known - 1];
    if (!Number.isNaN(after)) [sum, known] = [sum + after, known + 1];
    if (i % every === 0 || i === steps.length - 1) points.push([spent / all / budgets[T - 1], sum / known]);
  });
  return points;
});

/**
 * The steps along the lower convex hulls of all images, those first that lower the measure most per token; the same
 * order as alit_cli/analysis/selection/allocate.py takes them in.
 * @param {Column} column
 * @param {Uint8Array} kept
 */
function hullSteps(column, kept) {
  const sign = lowerIsBetter(state.op) ? 1 : -1;
  const steps = [];
  for (let row = 0; row < N; row++) {
    if (!kept[row]) continue;
    const losses = budgets.map((_, t) => sign * column.values[row * T + t]);
    const worst = Math.max(...losses.filter((value) => !Number.isNaN(value)));
    let from = 0;
    let ceiling = Infinity; // so that rounding never turns two steps of an image round
    while (from < T - 1) {
      let [to, best] = [0, 0];
      const here = Number.isNaN(losses[from]) ? worst : losses[from];
      for (let end = from + 1; end < T; end++) {
        const rate = Math.fround(here - losses[end]) / (budgets[end] - budgets[from]); // float32 losses, as there
        if (rate > best) [to, best] = [end, rate]; // of equal ones the nearest
      }
      if (!to) break;
      ceiling = Math.min(ceiling, Math.fround(best));
      steps.push({ row, from, to, rate: ceiling });
      from = to;
    }
  }
  return steps.sort((a, b) => b.rate - a.rate); // stable: images in their order where rates are equal
}

/** Where a line is at a share of tokens, between its points. @param {Points} points @param {number} share */
function between(points, share) {
  const after = points.findIndex(([x]) => x >= share - 1e-9);
  if (after < 0) return NaN;
  if (after === 0) return Math.abs(points[0][0] - share) < 1e-6 ? points[0][1] : NaN;
  const [[x0, y0], [x1, y1]] = [points[after - 1], points[after]];
  return x1 > x0 ? y0 + ((y1 - y0) * (share - x0)) / (x1 - x0) : y1;
}

function showCapacity() {
  const section = byId("capacity");
  if (!outcomes.size || !criteria.length || !N || model.stop != null) {
    section.hidden = true;
    return;
  }
  const choice = byId("toi");
  choice.append(...[...outcomes.values()].map((one) => h("option", { value: one.key }, one.label)));
  choice.addEventListener("change", () => choose({ toi: choice.value }));
  const redraw = chart(byId("capacity-chart"), 280, "The outcome against the tokens spent", drawCapacity);
  const spreads = chart(
    byId("curve"),
    220,
    "A measure against tokens: mean, median and quantiles",
    (picture, width) => {
      const shown = outcome();
      if (shown) drawCurve(picture, width, 220, shown.column, null);
    },
  );
  follow([...CURVE, "thr", "step", "at"], () => {
    choice.value = outcome()?.key ?? "";
    redraw();
    sayCapacity();
  });
  follow(["toi", "filters", "query"], () => {
    const shown = outcome();
    if (!shown) return;
    byId("curve-caption").textContent = `${shown.column.label} against tokens, over the images`;
    spreads();
    showCurveTable(shown.column);
  });
}

/** @param {SVGElement} picture @param {number} width */
function drawCapacity(picture, width) {
  const shown = outcome();
  if (!shown) return;
  const height = 280;
  const lines = { uniform: uniformLine(), best: bestLine(), threshold: thresholdLine() };
  const values = Object.values(lines)
    .flat()
    .map(([, y]) => y)
    .concat(shown.original ?? [])
    .filter(Number.isFinite);
  if (!values.length) return;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const pad = 0.08 * (most - least) || Math.abs(most) / 10 || 1;
  const name = shown.share ? (/** @type {number} */ value) => `${Math.round(1000 * value) / 10} %` : digits;
  const { x, y, box } = plotFrame(picture, {
    width,
    height,
    low: Math.max(least - pad, shown.share ? 0 : -Infinity),
    high: most + pad,
    name,
  });
  for (const share of [0, 0.25, 0.5, 0.75, 1])
    axisName(picture, x(share), height - box.bottom + 18, `${100 * share} %`);
  axisName(picture, x(0.5), height - 1, "tokens spent, as a share of the largest budget for every image");
  if (shown.original !== null) {
    picture.append(
      svg("line", { class: "original-line", x1: x(0), x2: x(1), y1: y(shown.original), y2: y(shown.original) }),
      svg("text", { class: "tick", x: x(0) + 4, y: y(shown.original) - 5 }, "original images"),
    );
  }
  /** @param {Points} points @returns {Points} */
  const placed = (points) =>
    points.filter(([, value]) => Number.isFinite(value)).map(([share, value]) => [x(share), y(value)]);
  picture.append(
    svg("path", { class: "line-uniform", d: line(placed(lines.uniform)) }),
    svg("path", { class: "line-best", d: line(placed(lines.best)) }),
    svg("path", { class: "line-threshold", d: line(placed(lines.threshold)) }),
  );
  lines.uniform.forEach(([share, value], t) => {
    if (!Number.isFinite(value)) return;
    const told = svg("title", {}, `${budgets[t]} tokens for all: ${outcomeValue(shown, value)}`);
    picture.append(svg("circle", { class: "uniform-dot", cx: x(share), cy: y(value), r: 3.5 }, told));
  });
  const chosen = (/** @type {number} */ row) => Math.min(needs()[row], T - 1);
  const [share, value] = pointOf(shown, chosen);
  const paired = criterion().perBudget ? pairedDifference(shown, chosen) : null;
  if (paired && Number.isFinite(value)) {
    const [top, bottom] = [y(value + paired.half), y(value - paired.half)];
    picture.append(svg("line", { class: "here-bar", x1: x(share), x2: x(share), y1: top, y2: bottom }));
  }
  if (criterion().perBudget && Number.isFinite(value)) {
    picture.append(svg("circle", { class: "here-dot", cx: x(share), cy: y(value), r: 6 }));
  }
}

/** What the chart says at the threshold, in words: the criterion beside one budget for all at equal tokens. */
function sayCapacity() {
  const shown = outcome();
  const column = criterion();
  const say = byId("capacity-say");
  if (!shown || !passed()) {
    say.textContent = "";
    return;
  }
  if (!column.perBudget) {
    const why = "is the same at every budget, so it chooses none; only one budget for all is drawn.";
    say.textContent = `${column.label} ${why}`;
    return;
  }
  const chosen = (/** @type {number} */ row) => Math.min(needs()[row], T - 1);
  const [share, value] = pointOf(shown, chosen);
  const paired = pairedDifference(shown, chosen);
  const sign = (/** @type {{difference: number}} */ pair) => (pair.difference > 0 ? "+" : "−");
  const size = (/** @type {number} */ number) => (shown.share ? `${(100 * number).toFixed(1)} points` : digits(number));
  const [plain, best] = [between(uniformLine(), share), between(bestLine(), share)];
  const all = uniformLine()[T - 1][1];
  const parts = [
    `Budgets chosen by ${nameOf(column)} ${SIGNS[state.op]} ${digits(state.thr)} spend `,
    h("b", {}, percent(share)),
    ` of the tokens and reach ${shown.label.replace(/ \(.*\)/, "")} `,
    h("b", {}, outcomeValue(shown, value)),
    Number.isNaN(plain) ? "" : `; one budget for all reaches ${outcomeValue(shown, plain)} there`,
    paired ? ` (difference ${sign(paired)}${size(Math.abs(paired.difference))} ± ${size(paired.half)}, 95 %)` : "",
    Number.isNaN(best) ? "" : `, the best allocation by ${nameOf(column)} ${outcomeValue(shown, best)}`,
    `; ${budgets[T - 1]} tokens for every image ${outcomeValue(shown, all)}.`,
  ];
  say.replaceChildren(...parts);
}

/** @param {Column} column */
function showCurveTable(column) {
  const spread = spreadOf(column);
  const head = ["tokens", "bits", "images", "mean", "10 %", "25 %", "median", "75 %", "90 %"];
  const rows = budgets.map((budget, t) => {
    const values = spread[t];
    const mean = values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
    const cells = [
      mean,
      ...[0.1, 0.25, 0.5, 0.75, 0.9].map((share) => (values.length ? quantile(values, share) : NaN)),
    ];
    return [budget, whole(data.bits[t]), whole(values.length), ...cells.map(digits)];
  });
  byId("curve-table").replaceChildren(
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        head.map((text) => h("th", { scope: "col" }, text)),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((row) =>
        h(
          "tr",
          {},
          row.map((cell) => h("td", { class: "number" }, String(cell))),
        ),
      ),
    ),
  );
}
