// @ts-check
// Filters by any column, the column that sets colours, and its legend.

/** Words that a filter shows as buttons; the others of a long list are found by Find. */
const MOST_WORDS = 40;

function showFilters() {
  const [add, colour] = [byId("filter"), byId("colour")];
  add.append(h("option", { value: "" }, "by …"), ...columnOptions([...columns.values()]));
  add.addEventListener("change", () => {
    const column = columns.get(add.value);
    add.value = "";
    if (!column || state.filters.some((filter) => filter.key === column.key)) return;
    const filter = column.words.length
      ? { key: column.key, words: column.words }
      : { key: column.key, low: NaN, high: NaN };
    choose({ filters: [...state.filters, filter] });
    byId("filters").lastElementChild?.querySelector("button, input")?.focus();
  });
  colour.append(h("option", { value: "" }, "need"), ...columnOptions([...columns.values()]));
  colour.addEventListener("change", () => choose({ colour: colour.value }));
  follow(["filters"], drawFilters);
  follow(["colour", "step", "at", "tsc", "thr", "op", "filters", "query"], drawLegend);
}

function drawFilters() {
  const held = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.stay : undefined;
  byId("filters").replaceChildren(...state.filters.map(filterCard));
  if (held)
    byId("filters")
      .querySelector(`[data-stay="${CSS.escape(held)}"]`)
      ?.focus();
}

/** @param {Filter} filter */
function filterCard(filter) {
  const column = /** @type {Column} */ (columns.get(filter.key));
  const others = state.filters.filter((other) => other !== filter);
  const where = column.perBudget ? " at the budget shown" : "";
  const remove = h(
    "button",
    {
      type: "button",
      class: "quiet small",
      "aria-label": `Remove the filter by ${column.label}`,
      click: () => choose({ filters: others }),
    },
    "✕",
  );
  return h(
    "div",
    { class: "filter", "data-key": column.key },
    h("div", { class: "filter-head" }, h("b", {}, column.label), h("small", {}, where), remove),
    column.words.length ? wordButtons(filter, column) : rangeInputs(filter, column),
  );
}

/** @param {Filter} filter @param {Partial<Filter>} changes */
function changeFilter(filter, changes) {
  choose({ filters: state.filters.map((other) => (other.key === filter.key ? { ...other, ...changes } : other)) });
}

/**
 * A button for every word, the most frequent first; the first press leaves that word alone.
 * @param {Filter} filter
 * @param {Column} column
 */
function wordButtons(filter, column) {
  const frequency = new Array(column.words.length).fill(0);
  for (let row = 0; row < N; row++) {
    const value = valueAt(column, row, stepOf(row));
    if (value >= 0) frequency[value] += 1;
  }
  const chosen = new Set(filter.words);
  const every = chosen.size === column.words.length;
  const order = [...column.words.keys()].filter((i) => frequency[i]).sort((a, b) => frequency[b] - frequency[a]);
  const buttons = order.slice(0, MOST_WORDS).map((i) => {
    const word = column.words[i];
    const press = () => {
      const words = every
        ? [word]
        : chosen.has(word)
          ? [...chosen].filter((other) => other !== word)
          : [...chosen, word];
      changeFilter(filter, { words: words.length ? words : column.words });
    };
    const pressed = !every && chosen.has(word);
    return h(
      "button",
      {
        type: "button",
        class: "word",
        "aria-pressed": String(pressed),
        "data-stay": `${column.key}=${word}`,
        click: press,
      },
      word,
      h("small", {}, whole(frequency[i])),
    );
  });
  const rest = order.length - buttons.length;
  return h("div", { class: "words" }, buttons, rest > 0 ? h("small", {}, `and ${whole(rest)} more`) : null);
}

/**
 * The smallest and the largest number that pass, over the distribution of all.
 * @param {Filter} filter
 * @param {Column} column
 */
function rangeInputs(filter, column) {
  const values = Float32Array.from({ length: N }, (_, row) => valueAt(column, row, stepOf(row)))
    .filter(Number.isFinite)
    .sort();
  const input = (/** @type {"low" | "high"} */ end, /** @type {string} */ label, /** @type {number} */ hint) => {
    const value = filter[end];
    const change = (/** @type {Event} */ event) => {
      const text = /** @type {HTMLInputElement} */ (event.target).value;
      changeFilter(filter, { [end]: text === "" ? NaN : Number(text) });
    };
    return h(
      "label",
      {},
      label,
      h("input", {
        type: "number",
        step: "any",
        placeholder: digits(hint).replaceAll(",", ""),
        value: Number.isNaN(value) ? null : value,
        "data-stay": `${column.key}.${end}`,
        change,
      }),
    );
  };
  return h(
    "div",
    { class: "range" },
    smallHistogram(values, filter),
    input("low", "from", values[0]),
    input("high", "to", values[values.length - 1]),
  );
}

/**
 * Bars of a column's distribution; those that the filter keeps are strong.
 * @param {Float32Array} values
 * @param {Filter} filter
 */
function smallHistogram(values, filter) {
  const bins = 36;
  const [from, to] = [values[0], values[values.length - 1]];
  const size = new Array(bins).fill(0);
  for (const value of values) size[Math.min(Math.floor((bins * (value - from)) / (to - from || 1)), bins - 1)] += 1;
  const most = Math.max(...size, 1);
  const { low = NaN, high = NaN } = filter;
  const bars = size.map((count, i) => {
    const middle = from + ((i + 0.5) * (to - from)) / bins;
    const out = middle < low || middle > high;
    return svg("rect", {
      class: out ? "bin is-out" : "bin",
      x: 4 * i,
      y: 30 - (30 * count) / most,
      width: 3,
      height: (30 * count) / most,
    });
  });
  return svg(
    "svg",
    { viewBox: `0 0 ${4 * bins} 30`, class: "small-histogram", preserveAspectRatio: "none", "aria-hidden": "true" },
    bars,
  );
}

function drawLegend() {
  const shown = classes();
  byId("colour").value = state.colour;
  byId("legend").hidden = !shown;
  if (!shown) return;
  const column = /** @type {Column} */ (columns.get(state.colour));
  byId("legend").replaceChildren(
    h("span", { class: "legend-name" }, column.label),
    ...shown.names.map((name, i) => {
      const swatch = h("i", { class: "swatch" });
      swatch.style.background = shown.colours[i];
      return h("span", {}, swatch, name, h("small", {}, ` ${whole(shown.counts[i])}`));
    }),
  );
}
