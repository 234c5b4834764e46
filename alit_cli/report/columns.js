// @ts-check
// Columns of numbers and words about the images: decoding, writing values, and thresholds worth offering.

/**
 * One column. `values` holds N numbers (of a measure or guess N × T, budget by budget of each image); NaN and -1 are
 * unknown. `whole` says that all numbers are whole; `perBudget` that there is one for every budget.
 * @typedef {{key: string, kind: Kind, label: string, operator: string, values: Float32Array | Int16Array,
 *   originals: Float32Array | Int16Array | null, words: string[], whole: boolean, perBudget: boolean}} Column
 */

/** @type {Map<string, Column>} */
const columns = new Map(data.columns.map((column) => [column.key, openColumn(column)]));

/**
 * @param {ColumnData} column
 * @returns {Column}
 */
function openColumn(column) {
  const words = column.kind === "group" || column.kind === "guess";
  const values = numbersOf(column.values, words);
  return {
    key: column.key,
    kind: column.kind,
    label: column.label,
    operator: column.operator,
    values,
    originals: column.originals == null ? null : numbersOf(column.originals, words),
    words: column.words || [],
    whole: values.every((value) => Number.isNaN(value) || Number.isInteger(value)),
    perBudget: column.kind === "measure" || column.kind === "guess",
  };
}

/**
 * @param {string} text
 * @param {boolean} words
 */
function numbersOf(text, words) {
  const view = bytesOf(text);
  const count = view.byteLength / (words ? 2 : 4);
  const values = words ? new Int16Array(count) : new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = words ? view.getInt16(2 * i, true) : view.getFloat32(4 * i, true);
  return values;
}

/** @param {Column} column @param {number} row @param {number} step The place of a budget. */
function valueAt(column, row, step) {
  return column.values[column.perBudget ? row * T + step : row];
}

/**
 * A value as people read it.
 * @param {Column} column
 * @param {number} value
 */
function written(column, value) {
  if (column.words.length) return value < 0 ? "–" : column.words[value];
  return digits(value);
}

const measures = [...columns.values()].filter((column) => column.kind === "measure");
const numbers = [...columns.values()].filter((column) => column.kind === "number");
const groups = [...columns.values()].filter((column) => column.kind === "group");
const guesses = [...columns.values()].filter((column) => column.kind === "guess");
/** Columns that can be a criterion. A table that stopped early at an L1 answers for that alone. */
const criteria = [...measures, ...numbers].filter(
  (column) => column.values.some(Number.isFinite) && (model.stop == null || column.key === "l1" || !column.perBudget),
);

/** @type {Record<string, string>} */
const SHORT = { l1: "L1", psnr: "PSNR", ssim: "SSIM", mse: "MSE", lpips: "LPIPS" };

/** @param {Column} column A name for the middle of a sentence. */
function nameOf(column) {
  return SHORT[column.key] || column.label.replace(/ \((?!.*of ).*?\)/, "");
}

/** @type {Record<string, (value: number, threshold: number) => boolean>} */
const OPERATORS = {
  "<": (value, threshold) => value < threshold,
  "<=": (value, threshold) => value <= threshold,
  ">": (value, threshold) => value > threshold,
  ">=": (value, threshold) => value >= threshold,
};
/** @type {Record<string, string>} */
const SIGNS = { "<": "<", "<=": "≤", ">": ">", ">=": "≥" };
/** @type {Record<string, string>} */
const OPERATOR_WORDS = { "<": "below", "<=": "of at most", ">": "above", ">=": "of at least" };
/** @param {string} operator */
const lowerIsBetter = (operator) => operator.startsWith("<");

const RANKS = [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 5000, 10_000];
/** Thresholds that a slider offers at the most: more than it has pixels on a phone are of no use. */
const MOST_THRESHOLDS = 240;
/** @type {Map<string, number[]>} */
const thresholdsOfColumn = new Map();

/**
 * Round numbers from the smallest to the largest value of a column, ascending. Ranks go in steps that people use, and
 * numbers of several magnitudes in steps that grow.
 * @param {Column} column
 * @returns {number[]}
 */
function thresholdsOf(column) {
  const known = thresholdsOfColumn.get(column.key);
  if (known) return known;
  const sorted = Float32Array.from(column.values).filter(Number.isFinite).sort();
  const at = (/** @type {number} */ share) => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high] = [at(0), at(1)];
  let found;
  if (column.key.startsWith("class_rank")) {
    found = RANKS.filter((_, i) => i === 0 || RANKS[i - 1] < high);
  } else if (low > 0 && at(0.98) / at(0.02) > 60) {
    found = growing(low, high);
  } else {
    // One far outlier must not make all steps too wide for the others.
    const [from, to] = [at(0.002), at(0.998)];
    const step = roundStep((to - from) / MOST_THRESHOLDS || Math.abs(to) / 10 || 1, column.whole);
    found = [];
    for (let i = Math.floor(from / step); i <= Math.ceil(to / step + 1e-9) + 1; i++)
      found.push(Number((i * step).toPrecision(6)));
  }
  if (column.key === "l1" && model.stop != null) {
    const stop = model.stop;
    found = [stop, ...found.filter((value) => value > stop)];
  }
  thresholdsOfColumn.set(column.key, found);
  return found;
}

/** The smallest of 1, 2, 5, 10 … that is not below a width. @param {number} width @param {boolean} isWhole */
function roundStep(width, isWhole) {
  const power = 10 ** Math.floor(Math.log10(width));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= width * (1 - 1e-9)) || width;
  return isWhole ? Math.max(1, Math.round(step)) : step;
}

/** Numbers of two digits from low to high. @param {number} low @param {number} high */
function growing(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (let number = 10; number < 100; number += 2) {
      const value = Number((number * 10 ** (power - 1)).toPrecision(2));
      if (value >= low / 1.2 && value <= high * 1.2) found.push(value);
    }
  }
  return found;
}
