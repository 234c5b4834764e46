// @ts-check
// Shared by the files after it: the page's data, types, and small helpers. Text enters the page as text, never as HTML.

/**
 * @typedef {"measure" | "number" | "group" | "guess"} Kind A number per budget, a number, a word, a word per budget.
 * @typedef {{key: string, kind: Kind, label: string, operator: string, values: string, originals?: string,
 *   words?: string[]}} ColumnData `values` is base64 of float32 (numbers) or int16 (places in `words`), row by row.
 * @typedef {{place: number, sprite?: string, frames?: number, original?: boolean, quality?: number,
 *   side?: number, ids?: string}} PictureData `place` is the image's place in `images`; `sprite` a WebP of this quality
 *   with `frames` squares of `side` pixels, first the original if there is one.
 * @typedef {{name: string, id: string, side: number, codes: number, tokenDim: number, fit: string,
 *   stop: number | null}} ModelData
 * @typedef {{rows: number, statuses: Record<string, number>, failures: string[][], count: number[],
 *   mean: (number | null)[]}} FactsData Counts over all rows of the table.
 * @typedef {{path: string, model: ModelData, budgets: number[], bits: number[], facts: FactsData, start: number | null,
 *   of: number, images: string[], sources: string[], sizes: number[][], photographs: number[] | null,
 *   columns: ColumnData[], leftOut: string[], pictures: PictureData[]}} TableData `images` are all images with tokens,
 *   or some of `of` drawn at random; `photographs` tells which of them are views of one photograph.
 * @typedef {{name: string, columns: string[], cells: string[][], rows: number}} CsvData
 * @typedef {{topic: string, title: string, figures: {name: string, uri: string, photographs: boolean}[],
 *   tables: CsvData[], left_out: number}} PanelData
 * @typedef {{version: string, tables: TableData[], panels: PanelData[], strangers?: string[]}} PageData
 */

/** @type {(id: string) => any} An element of page.html; all of them are there. */
const byId = (id) => document.getElementById(id);

/** @type {PageData} */
const page = JSON.parse(byId("data").textContent);
/** What the link to this page asks for: the state is kept behind the # of its address. */
const asked = new URLSearchParams(location.hash.slice(1));
const tableNumber = Math.min(Math.max(Number(asked.get("table")) || 0, 0), page.tables.length - 1);
const data = page.tables[tableNumber];
const { budgets, facts, images, model } = data;
const T = budgets.length;
const N = images.length;
/** The need of an image that no budget satisfies. */
const NEVER = T;
/** Rows with tokens, of the whole table. */
const total = facts.statuses.ok || 0;
const hasSprites = data.pictures.some((picture) => picture.sprite);
const hasOriginals = data.pictures.some((picture) => picture.original);

/**
 * An element: attributes (functions become listeners), then children; strings become text.
 * @param {string} name
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 * @returns {HTMLElement}
 */
function h(name, attributes = {}, ...children) {
  return /** @type {HTMLElement} */ (fill(document.createElement(name), attributes, children));
}

/**
 * The same for SVG.
 * @param {string} name
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 * @returns {SVGElement}
 */
function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  return /** @type {SVGElement} */ (fill(element, attributes, children));
}

/**
 * @param {Element} element
 * @param {Record<string, any>} attributes
 * @param {any[]} children
 */
function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat(2).filter((child) => child != null && child !== false));
  return element;
}

/** @param {number} value */
const whole = (value) => Math.round(value).toLocaleString("en-US");
/** @param {number} share */
const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : "–");
/** @param {number} count @param {string} word */
const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

/**
 * A number with four significant digits; whole numbers as they are.
 * @param {number | null | undefined} value
 */
function digits(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return Math.abs(value) < 10_000 ? String(value) : whole(value);
  if (Math.abs(value) >= 10_000) return whole(value);
  const size = Math.abs(value);
  return size < 1e-4 ? value.toExponential(2) : Number(value.toPrecision(4)).toString();
}

/**
 * Little-endian numbers of base64.
 * @param {string} text
 * @returns {DataView<ArrayBuffer>}
 */
function bytesOf(text) {
  const signs = atob(text);
  const bytes = new Uint8Array(signs.length);
  // A loop, because Uint8Array.from with a function takes ten times as long, which is felt with megabytes of pictures.
  for (let i = 0; i < signs.length; i++) bytes[i] = signs.charCodeAt(i);
  return new DataView(bytes.buffer);
}
