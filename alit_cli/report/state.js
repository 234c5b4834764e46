// @ts-check
// What the reader has chosen, kept in the page's address; whoever shows a part of it is told of changes.

/**
 * A filter keeps images whose word is one of `words`, or whose number lies from `low` to `high` (NaN: no limit).
 * @typedef {{key: string, words?: string[], low?: number, high?: number}} Filter
 * @typedef {{tsc: string, op: string, thr: number, toi: string, step: number, at: string, show: string, sort: string,
 *   down: boolean, colour: string, query: string, only: number | null, filters: Filter[], open: string}} State
 *   tsc, op, thr: the criterion. toi: the outcome that is drawn over tokens. step: the place of the budget shown, or
 *   at = "need": each image at its own. show: "decoded", "original", "split" or "error". only: a need that the images
 *   are restricted to. open: the image in the dialog.
 */

/** @param {string} key @param {number} [fallback] */
const askedNumber = (key, fallback = NaN) => (asked.has(key) ? Number(asked.get(key)) : fallback);
/** @param {string} key @param {string[]} allowed @param {string} fallback */
const askedWord = (key, allowed, fallback) => {
  const word = asked.get(key);
  return word != null && allowed.includes(word) ? word : fallback;
};

/** @type {State} What a link without a # shows. */
const defaults = firstState();
/** @type {State} */
const state = stateOfAddress();

/** @returns {State} */
function firstState() {
  const column =
    columns.get("l1") && criteria.includes(/** @type {Column} */ (columns.get("l1"))) ? columns.get("l1") : criteria[0];
  return {
    tsc: column ? column.key : "",
    op: column ? usualOperator(column) : "<",
    thr: column ? startOf(column) : NaN,
    toi: usualOutcome(),
    step: Math.floor(T / 2),
    at: "budget",
    show: "decoded",
    sort: column ? "need" : "table",
    down: false,
    colour: "",
    query: "",
    only: null,
    filters: [],
    open: "",
  };
}

/** @param {Column} column */
function usualOperator(column) {
  return column.operator in OPERATORS ? column.operator : "<";
}

/** @param {Column} column The threshold that comes first: the page's own for L1, else near the middle. */
function startOf(column) {
  if (column.key === "l1" && data.start != null) return data.start;
  const all = thresholdsOf(column);
  if (column.key.startsWith("class_rank")) return 1;
  const sorted = Float32Array.from(column.values).filter(Number.isFinite).sort();
  const middle = sorted[sorted.length >> 1];
  return all.find((value) => value >= middle) ?? all[all.length - 1];
}

/** What tasks say is the likeliest question; then how true the pictures are; then L1. */
function usualOutcome() {
  const keys = measures.map((column) => column.key);
  const rank = keys.find((key) => key.startsWith("class_rank"));
  if (rank) return `top1:${rank}`;
  return keys.find((key) => key === "psnr") || keys.find((key) => key === "l1") || keys[0] || "";
}

/** @returns {State} */
function stateOfAddress() {
  const first = defaults;
  const tsc = askedWord(
    "tsc",
    criteria.map((column) => column.key),
    first.tsc,
  );
  const column = columns.get(tsc);
  const budget = budgets.indexOf(askedNumber("budget"));
  const need = asked.get("need");
  return {
    tsc,
    op: askedWord("op", Object.keys(OPERATORS), column ? usualOperator(column) : first.op),
    thr:
      asked.has("thr") && Number.isFinite(askedNumber("thr"))
        ? askedNumber("thr")
        : column && tsc !== first.tsc
          ? startOf(column)
          : first.thr,
    toi: asked.get("toi") || first.toi,
    step: budget < 0 ? first.step : budget,
    at: askedWord("at", ["budget", "need"], first.at),
    show: askedWord("show", ["decoded", "original", "split", "error"], first.show),
    sort: askedWord("sort", ["need", "name", "table", ...columns.keys()], first.sort),
    down: asked.get("down") === "1",
    colour: askedWord("colour", [...columns.keys()], ""),
    query: asked.get("find") || "",
    only: need === "never" ? NEVER : need && budgets.includes(Number(need)) ? budgets.indexOf(Number(need)) : null,
    filters: [...asked].flatMap(([key, text]) => filterOfAddress(key, text)),
    open: asked.get("image") || "",
  };
}

/** @param {string} name @param {string} text @returns {Filter[]} */
function filterOfAddress(name, text) {
  const key = name.slice(2);
  const column = columns.get(key);
  if (!name.startsWith("f.") || !column) return [];
  if (column.words.length) return [{ key, words: text.split("|").map(decodeURIComponent) }];
  const [low, high] = text.split("..").map((number) => (number === "" ? NaN : Number(number)));
  return [{ key, low, high: high ?? NaN }];
}

/** The state as it stands behind the #; what is as it was at first is left out. */
function addressOfState() {
  const out = new URLSearchParams();
  if (page.tables.length > 1) out.set("table", String(tableNumber));
  const column = columns.get(state.tsc);
  if (state.tsc !== defaults.tsc) out.set("tsc", state.tsc);
  if (column && state.op !== usualOperator(column)) out.set("op", state.op);
  if (state.tsc !== defaults.tsc || state.thr !== defaults.thr) out.set("thr", String(state.thr));
  if (state.step !== defaults.step) out.set("budget", String(budgets[state.step]));
  for (const key of /** @type {const} */ (["toi", "at", "show", "sort", "colour"]))
    if (state[key] !== defaults[key]) out.set(key, state[key]);
  if (state.down) out.set("down", "1");
  if (state.query) out.set("find", state.query);
  if (state.only !== null) out.set("need", needName(state.only));
  for (const { key, words, low = NaN, high = NaN } of state.filters) {
    const numbers = [low, high].map((value) => (Number.isNaN(value) ? "" : String(value)));
    out.set(`f.${key}`, words ? words.map(encodeURIComponent).join("|") : numbers.join(".."));
  }
  if (state.open) out.set("image", state.open);
  return out.toString();
}

/** @type {[(keyof State)[], () => void][]} */
const listeners = [];

/**
 * Call `show` now, and again whenever one of these parts of the state changes.
 * @param {(keyof State)[]} keys
 * @param {() => void} show
 */
function follow(keys, show) {
  listeners.push([keys, show]);
  show();
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let writing;

/** @param {Partial<State>} changes */
function choose(changes) {
  const names = /** @type {(keyof State)[]} */ (Object.keys(changes));
  const changed = names.filter((key) => state[key] !== changes[key]);
  Object.assign(state, changes);
  for (const [keys, show] of listeners) if (keys.some((key) => changed.includes(key))) show();
  // Browsers refuse an address that changes with every move of a slider, so it is written once it rests.
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", `#${addressOfState()}`), 150);
}

/**
 * A value that is computed once for these parts of the state, and anew when they have changed.
 * @template V
 * @param {(keyof State)[]} keys
 * @param {() => V} make
 * @returns {() => V}
 */
function remembered(keys, make) {
  /** @type {any[] | null} */
  let made = null;
  /** @type {V} */
  let value;
  return () => {
    const now = keys.map((key) => state[key]);
    const before = made;
    if (!before || now.some((part, i) => !Object.is(part, before[i]))) {
      made = now;
      value = make();
    }
    return value;
  };
}

// -- What follows from the state -------------------------------------------------------------------------------

/** The criterion's column; only asked for where there is one. */
const criterion = () => /** @type {Column} */ (columns.get(state.tsc));

/** The place of the first budget that satisfies the criterion, of every image; NEVER where none does. */
const needs = remembered(["tsc", "op", "thr"], () => {
  const found = new Uint8Array(N).fill(NEVER);
  const column = columns.get(state.tsc);
  if (!column) return found;
  const meets = OPERATORS[state.op];
  const limit = Math.fround(state.thr); // the columns are float32, and `alit select` compares in their precision
  for (let row = 0; row < N; row++) {
    for (let t = 0; t < T; t++) {
      if (!meets(valueAt(column, row, t), limit)) continue;
      found[row] = t;
      break;
    }
  }
  return found;
});

/** Which images pass the filters and Find: one 0 or 1 for each. */
const passing = remembered(["filters", "query", "step", "at", "tsc", "thr", "op"], () => {
  const kept = new Uint8Array(N).fill(1);
  const words = state.query.toLowerCase();
  if (words) images.forEach((name, row) => (kept[row] = name.toLowerCase().includes(words) ? 1 : 0));
  for (const filter of state.filters) {
    const column = columns.get(filter.key);
    if (!column) continue;
    const wanted = filter.words && new Set(filter.words.map((word) => column.words.indexOf(word)));
    const { low = NaN, high = NaN } = filter;
    for (let row = 0; row < N; row++) {
      const value = valueAt(column, row, stepOf(row));
      const inside = wanted ? wanted.has(value) : !Number.isNaN(value) && !(value < low) && !(value > high);
      if (!inside) kept[row] = 0;
    }
  }
  return kept;
});

/** How many images pass. */
const passed = () => passing().reduce((sum, one) => sum + one, 0);

/** The place of the budget at which an image is shown, sorted and filtered. @param {number} row */
function stepOf(row) {
  return state.at === "need" ? Math.min(needs()[row], T - 1) : state.step;
}

/** Images that pass by need: T counts, then those that never get there. */
function counts() {
  const found = new Array(T + 1).fill(0);
  const [kept, need] = [passing(), needs()];
  for (let row = 0; row < N; row++) if (kept[row]) found[need[row]] += 1;
  return found;
}

/** @param {number} step */
function needName(step) {
  return step === NEVER ? "never" : String(budgets[step]);
}

const COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#d1495b", "#9467bd", "#3aa6a0", "#d9b13b", "#e377c2", "#9c755f"];
const OTHER = "#98948b";
/** Bins of a column of numbers that sets colours. */
const BINS = 5;

/**
 * The classes of the column that sets colours, and the class of each image (-1: none).
 * @typedef {{names: string[], colours: string[], of: Int16Array, counts: number[]}} Classes
 * @type {() => Classes | null}
 */
const classes = remembered(["colour", "step", "at", "tsc", "thr", "op", "filters", "query"], () => {
  const column = columns.get(state.colour);
  if (!column) return null;
  const values = Float32Array.from({ length: N }, (_, row) => valueAt(column, row, stepOf(row)));
  const kept = passing();
  return column.words.length ? wordClasses(column, values, kept) : numberClasses(values, kept);
});

/**
 * The most frequent words have a colour each, the others share one.
 * @param {Column} column
 * @param {Float32Array} values
 * @param {Uint8Array} kept
 */
function wordClasses(column, values, kept) {
  const frequency = new Array(column.words.length).fill(0);
  values.forEach((value, row) => value >= 0 && kept[row] && (frequency[value] += 1));
  const order = [...frequency.keys()]
    .filter((word) => frequency[word])
    .sort((a, b) => frequency[b] - frequency[a] || a - b);
  const own = order.length > COLOURS.length + 1 ? order.slice(0, COLOURS.length) : order;
  const place = new Array(column.words.length).fill(own.length);
  own.forEach((word, i) => (place[word] = i));
  const names = own.map((word) => column.words[word]);
  if (own.length < order.length) names.push(`${order.length - own.length} others`);
  return counted(
    names,
    names.map((_, i) => (i < COLOURS.length && i < own.length ? COLOURS[i] : OTHER)),
    values.map((value) => (value < 0 ? -1 : place[value])),
    kept,
  );
}

/**
 * Bins with equally many images, as far as equal values allow.
 * @param {Float32Array} values
 * @param {Uint8Array} kept
 */
function numberClasses(values, kept) {
  const sorted = values.filter((value, row) => kept[row] && Number.isFinite(value)).sort();
  const edges = [
    ...new Set(Array.from({ length: BINS - 1 }, (_, i) => sorted[Math.floor(((i + 1) * sorted.length) / BINS)])),
  ];
  const inner = edges.filter((edge) => edge > sorted[0]);
  const ends = [sorted[0], ...inner, sorted[sorted.length - 1]];
  const names = sorted.length ? [...inner, null].map((_, i) => `${digits(ends[i])} – ${digits(ends[i + 1])}`) : [];
  const colours = names.map((_, i) => ramp(names.length > 1 ? i / (names.length - 1) : 1));
  return counted(
    names,
    colours,
    values.map((value) => (Number.isFinite(value) ? inner.filter((edge) => value >= edge).length : -1)),
    kept,
  );
}

/**
 * @param {string[]} names
 * @param {string[]} colours
 * @param {Float32Array} places
 * @param {Uint8Array} kept
 * @returns {Classes}
 */
function counted(names, colours, places, kept) {
  const sizes = names.map(() => 0);
  const of = Int16Array.from(places);
  of.forEach((place, row) => place >= 0 && kept[row] && (sizes[place] += 1));
  return { names, colours, of, counts: sizes };
}

/** From light to strong, as 0 to 1. @param {number} share */
function ramp(share) {
  return `color-mix(in oklab, var(--ramp-low), var(--ramp-high) ${Math.round(100 * share)}%)`;
}

/** The colour of a budget: light to strong as tokens are added. @param {number} step */
function shade(step) {
  return ramp(step / Math.max(T - 1, 1));
}
