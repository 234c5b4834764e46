// Drawing: charts that fit their place anew when it changes, axes, and the curve of L1 against tokens.

/** An SVG as wide as its host; `draw(picture, width)` fills it, again after every resize. Returns a redraw. */
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

/** Round numbers within [low, high], about `most` of them. */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(6)));
  return found;
}

const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const area = (upper, lower) => `${line(upper)}${line([...lower].reverse()).replace("M", "L")}Z`;

/** The colour of a budget: light to strong as tokens are added. */
function shade(step) {
  return `color-mix(in oklab, var(--ramp-low), var(--ramp-high) ${Math.round((100 * step) / Math.max(T - 1, 1))}%)`;
}

/** Draw L1 against tokens over all images: bands, mean, median; and one image's own curve, if given. */
function drawCurve(picture, width, height, own) {
  const box = { left: 44, right: 16, top: 12, bottom: 36 };
  const known = facts.quantiles.flat().concat(facts.mean, own ? own.l1 : []).filter((value) => value != null);
  const high = 1.06 * Math.max(...known);
  const span = budgets[T - 1] - budgets[0];
  const inner = width - box.left - box.right;
  const x = (t) => box.left + (span ? (inner * (budgets[t] - budgets[0])) / span : inner / 2);
  const y = (value) => height - box.bottom - ((height - box.top - box.bottom) * value) / high;

  for (const value of ticks(0, high, 4)) {
    picture.append(
      svg("line", { class: "rule", x1: box.left, x2: width - box.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)),
    );
  }
  let right = -Infinity;
  for (let t = 0; t < T; t++) {
    if (x(t) - right < 26) continue;
    right = x(t);
    picture.append(svg("text", { class: "tick", x: x(t), y: height - box.bottom + 18, "text-anchor": "middle" }, String(budgets[t])));
  }
  picture.append(svg("text", { class: "tick", x: box.left + inner / 2, y: height - 1, "text-anchor": "middle" }, "tokens"));

  const steps = budgets.map((_, t) => t).filter((t) => facts.mean[t] != null);
  const along = (which) => steps.map((t) => [x(t), y(facts.quantiles[t][which])]);
  picture.append(
    svg("path", { class: "band-most", d: area(along(4), along(0)) }),
    svg("path", { class: "band-mid", d: area(along(3), along(1)) }),
    svg("path", { class: "median", d: line(along(2)) }),
    svg("path", { class: "mean", d: line(steps.map((t) => [x(t), y(facts.mean[t])])) }),
  );
  if (own) {
    const points = own.l1.map((value, t) => [t, value]).filter(([, value]) => value != null);
    picture.append(svg("path", { class: "own", d: line(points.map(([t, value]) => [x(t), y(value)])) }));
    for (const [t, value] of points) picture.append(svg("circle", { class: "own-dot", cx: x(t), cy: y(value), r: t === state.step ? 5 : 3 }));
    const at = thresholds[state.thr];
    if (at < high) {
      picture.append(
        svg("line", { class: "threshold", x1: box.left, x2: width - box.right, y1: y(at), y2: y(at) }),
        svg("text", { class: "threshold-name", x: width - box.right, y: y(at) - 5, "text-anchor": "end" }, `threshold ${threshold(at)}`),
      );
    }
    return;
  }
  for (const t of steps) picture.append(svg("circle", { class: "mean-dot", cx: x(t), cy: y(facts.mean[t]), r: 3 }));
  for (const t of new Set([steps[0], steps[steps.length - 1]])) {
    const anchor = t === steps[0] ? "start" : "end";
    picture.append(svg("text", { class: "value", x: x(t), y: y(facts.mean[t]) - 10, "text-anchor": anchor }, loss(facts.mean[t])));
  }
}
