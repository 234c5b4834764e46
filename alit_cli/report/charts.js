// @ts-check
// Drawing: charts that fit their place anew when it changes, axes, lines.

/** @typedef {[number, number][]} Points */

/** Pixels that the name of a threshold takes at the most, and from the line on which it stands to its middle. */
const [NAME_WIDE, NAME_RISE] = [110, 4];

/**
 * An SVG as wide as its host; `draw(picture, width)` fills it, again after every resize. Returns a redraw.
 * @param {HTMLElement} host
 * @param {number} height
 * @param {string} label
 * @param {(picture: SVGElement, width: number) => void} draw
 */
function chart(host, height, label, draw) {
  const picture = svg("svg", { role: "img", "aria-label": label, height });
  host.replaceChildren(picture);
  let width = 0;
  const redraw = () => {
    if (!width) return;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren();
    draw(picture, width);
  };
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now !== width) {
      width = now;
      redraw();
    }
  }).observe(host);
  return redraw;
}

/**
 * Round numbers within [low, high], about `most` of them.
 * @param {number} low
 * @param {number} high
 * @param {number} most
 */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough) || rough;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
    found.push(Number((i * step).toPrecision(6)));
  }
  return found;
}

/** @param {Points} points */
const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
/** @param {Points} upper @param {Points} lower */
const area = (upper, lower) => `${line(upper)}${line([...lower].reverse()).replace("M", "L")}Z`;

/**
 * The frame of a line chart: rules and numbers at the left. Returns the two scales.
 * @param {SVGElement} picture
 * @param {{width: number, height: number, low: number, high: number, name: (value: number) => string}} plot
 */
function plotFrame(picture, { width, height, low, high, name }) {
  const box = { left: 48, right: 18, top: 12, bottom: 36 };
  const y = (/** @type {number} */ value) =>
    height - box.bottom - ((height - box.top - box.bottom) * (value - low)) / (high - low || 1);
  const x = (/** @type {number} */ share) => box.left + (width - box.left - box.right) * share;
  for (const value of ticks(low, high, 5)) {
    picture.append(
      svg("line", { class: "rule", x1: box.left, x2: width - box.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, name(value)),
    );
  }
  return { x, y, box };
}

/** @param {SVGElement} picture @param {number} x @param {number} y @param {string} text */
function axisName(picture, x, y, text) {
  picture.append(svg("text", { class: "tick", x, y, "text-anchor": "middle" }, text));
}

/**
 * Sorted values' quantiles.
 * @param {Float32Array} sorted
 * @param {number} share
 */
function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/**
 * A column's values over all images that pass, at each budget: known ones ascending.
 * @param {Column} column
 */
function spreadOf(column) {
  const kept = passing();
  return budgets.map((_, t) => {
    const values = new Float32Array(N);
    let count = 0;
    for (let row = 0; row < N; row++) {
      const value = valueAt(column, row, t);
      if (kept[row] && Number.isFinite(value)) values[count++] = value;
    }
    return values.subarray(0, count).sort();
  });
}

/**
 * Draw a measure against tokens over all images: bands, mean and median; and one image's own curve, if a row is given.
 * @param {SVGElement} picture
 * @param {number} width
 * @param {number} height
 * @param {Column} column
 * @param {number | null} row
 */
function drawCurve(picture, width, height, column, row) {
  const spread = spreadOf(column);
  const steps = budgets.map((_, t) => t).filter((t) => spread[t].length);
  if (!steps.length) return;
  const own =
    row === null ? [] : steps.map((t) => [t, valueAt(column, row, t)]).filter(([, value]) => Number.isFinite(value));
  const ends = steps
    .flatMap((t) => [quantile(spread[t], 0.1), quantile(spread[t], 0.9)])
    .concat(own.map(([, value]) => value));
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  // Errors are read from zero; what lies far above it (PSNR) gets the room for itself.
  const low = least >= 0 && least < 0.5 * most ? 0 : least - 0.06 * (most - least);
  const {
    x: along,
    y,
    box,
  } = plotFrame(picture, { width, height, low, high: most + 0.06 * (most - low), name: digits });
  const span = budgets[T - 1] - budgets[0];
  const x = (/** @type {number} */ t) => along(span ? (budgets[t] - budgets[0]) / span : 0.5);
  budgetTicks(picture, x, height - box.bottom + 18);
  axisName(picture, along(0.5), height - 1, "tokens");
  /** @param {number} share @returns {Points} */
  const at = (share) => steps.map((t) => [x(t), y(quantile(spread[t], share))]);
  const mean = steps.map((t) => spread[t].reduce((sum, value) => sum + value, 0) / spread[t].length);
  picture.append(
    svg("path", { class: "band-most", d: area(at(0.9), at(0.1)) }),
    svg("path", { class: "band-mid", d: area(at(0.75), at(0.25)) }),
    svg("path", { class: "median", d: line(at(0.5)) }),
    svg("path", { class: "mean", d: line(steps.map((t, i) => [x(t), y(mean[i])])) }),
  );
  if (row === null) {
    steps.forEach((t, i) =>
      picture.append(
        svg(
          "circle",
          { class: "mean-dot", cx: x(t), cy: y(mean[i]), r: 3 },
          svg("title", {}, `${budgets[t]} tokens: mean ${digits(mean[i])} of ${plural(spread[t].length, "image")}`),
        ),
      ),
    );
    return;
  }
  picture.append(svg("path", { class: "own", d: line(own.map(([t, value]) => [x(t), y(value)])) }));
  for (const [t, value] of own)
    picture.append(svg("circle", { class: "own-dot", cx: x(t), cy: y(value), r: t === state.step ? 5 : 3 }));
  if (column.key === state.tsc && state.thr > low && state.thr < most) {
    const [left, right, level] = [box.left, width - box.right, y(state.thr)];
    const placed = freest(
      own.map(([t, value]) => [x(t), y(value)]),
      // A curve often ends near the threshold, so that above the line, at its right end, is only the first choice.
      [level - 5, level + 16].flatMap((base) => [
        { from: right - NAME_WIDE, to: right, base, anchor: "end" },
        { from: left + 4, to: left + 4 + NAME_WIDE, base, anchor: "start" },
      ]),
    );
    picture.append(
      svg("line", { class: "threshold", x1: left, x2: right, y1: level, y2: level }),
      svg(
        "text",
        {
          class: "threshold-name",
          x: placed.anchor === "end" ? placed.to : placed.from,
          y: placed.base,
          "text-anchor": placed.anchor,
        },
        `threshold ${digits(state.thr)}`,
      ),
    );
  }
}

/**
 * Of places for a name, the first of those that are farthest from a curve.
 * @template {{ from: number, to: number, base: number }} Place
 * @param {Points} curve
 * @param {Place[]} places
 */
function freest(curve, places) {
  const rooms = places.map(({ from, to, base }) => {
    const near = curve.filter(([x]) => x >= from && x <= to);
    return Math.min(...near.map(([, y]) => Math.abs(y - base + NAME_RISE)));
  });
  return places[rooms.indexOf(Math.max(...rooms))];
}

/**
 * The budgets under an axis, as many as have room.
 * @param {SVGElement} picture
 * @param {(t: number) => number} x
 * @param {number} y
 */
function budgetTicks(picture, x, y) {
  let right = -Infinity;
  for (let t = 0; t < T; t++) {
    if (x(t) - right < 30) continue;
    right = x(t);
    picture.append(svg("text", { class: "tick", x: x(t), y, "text-anchor": "middle" }, String(budgets[t])));
  }
}
