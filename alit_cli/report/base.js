// Shared by the files after it: the data, the state, small helpers. Text enters the page as text, never as HTML.
//
// data = {table, version, model, budgets: [T], bits: [T], facts, sample: {of, pictures, originals}, images, panels}
// facts.need[t][j]: of all images, how many satisfy L1 < facts.thresholds[j] at some budget up to budgets[t].
// images[i] = {image, source, width, height, measures, l1: [T or empty], strip?, frames?, original?, ids?}

const data = JSON.parse(document.getElementById("data").textContent);
const { budgets, facts, images, model } = data;
const T = budgets.length;
const NEVER = T; // the need of an image that no budget satisfies
const total = facts.statuses.ok || 0;
const thresholds = facts.thresholds;
const hasLoss = thresholds.length > 0;
const hasPictures = data.sample.pictures;

const byId = (id) => document.getElementById(id);

/** An element: attributes (functions become listeners), then children; strings become text. */
function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

const whole = (value) => Math.round(value).toLocaleString("en-US");
const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : "–");
const loss = (value) => (value == null ? "–" : value.toFixed(3));
const threshold = (value) => String(Number(value.toFixed(4)));
const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

// -- State: what the reader has chosen; whoever shows it is told of changes ------------------------------------

const state = {
  thr: facts.start,
  step: Math.floor(T / 2),
  mode: "budget", // or "need" (each image at its own), or "original"
  sort: hasLoss ? "need" : "table",
  query: "",
  only: null, // a need that the grid is restricted to
};
const listeners = [];

/** Call `show` now, and again whenever one of these parts of the state changes. */
function follow(keys, show) {
  listeners.push([keys, show]);
  show();
}

function choose(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  Object.assign(state, changes);
  for (const [keys, show] of listeners) if (keys.some((key) => changed.includes(key))) show();
}

// -- What images need -----------------------------------------------------------------------------------------

/** The place of the first budget whose L1 is below the threshold, compared as `alit select` does; else NEVER. */
function needOf(image, at = thresholds[state.thr]) {
  const limit = Math.fround(at);
  const step = image.l1.findIndex((value) => value != null && Math.fround(value) < limit);
  return step < 0 ? NEVER : step;
}

/** The last budget that an image has tokens for: fewer than all where the table stopped early. */
function lastStep(image) {
  return image.frames == null ? T - 1 : image.frames - (image.original ? 1 : 0) - 1;
}

/** Which picture of an image is shown: -1 is its original. */
function shownStep(image) {
  if (state.mode === "original") return -1;
  return Math.min(state.mode === "need" ? needOf(image) : state.step, lastStep(image));
}

/** Images of the whole table by need at a threshold: T counts, then those that never get there. */
function counts(j = state.thr) {
  const upTo = facts.need.map((row) => row[j]);
  return [...upTo.map((count, t) => count - (t ? upTo[t - 1] : 0)), total - upTo[T - 1]];
}

function needName(step) {
  return step === NEVER ? "never" : String(budgets[step]);
}
