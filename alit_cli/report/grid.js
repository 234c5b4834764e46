// @ts-check
// The images: tiles that all move to another picture at once, a bar of controls, sorting, finding, arrow keys.

/**
 * @typedef {{picture: PictureData, row: number, name: string, item: HTMLElement, button: HTMLElement,
 *   frame: HTMLElement | null, value: HTMLElement, badge: HTMLElement, swatch: HTMLElement}} Tile
 */

/** @type {Tile[]} */
const tiles = data.pictures.map(makeTile);
/** Those on show, in their order. */
let order = tiles;

/** @param {PictureData} picture @returns {Tile} */
function makeTile(picture) {
  const row = picture.place;
  const name = images[row];
  const folder = name.slice(0, name.lastIndexOf("/") + 1);
  const value = h("span", { class: "tile-l1" });
  const badge = h("span", { class: "tile-need" });
  const swatch = h("i", { class: "tile-swatch" });
  const frame = picture.sprite ? windowOnto(picture, "", true) : null;
  const open = () => openDetail(tile);
  const button = h(
    "button",
    { type: "button", class: "tile", tabindex: "-1", title: name, click: open },
    frame,
    swatch,
    folder ? h("span", { class: "tile-folder" }, folder) : null,
    h("span", { class: "tile-name" }, name.slice(folder.length)),
    h("span", { class: "tile-line" }, value, badge),
  );
  if (frame) splitUnderPointer(frame, picture);
  const tile = { picture, row, name, item: h("li", {}, button), button, frame, value, badge, swatch };
  return tile;
}

/** The column whose value a tile shows: the one it is sorted by, else the criterion's. */
function tileColumn() {
  return columns.get(state.sort) || columns.get(state.tsc);
}

/** The budget at which a tile is shown, which may have stopped before the one that is chosen. @param {Tile} tile */
function tileStep(tile) {
  return Math.min(stepOf(tile.row), lastStep(tile.picture));
}

/** @param {Tile} a @param {Tile} b */
function compareTiles(a, b) {
  if (state.sort === "name") return a.name.localeCompare(b.name, "en", { numeric: true });
  if (state.sort === "table") return a.row - b.row;
  const column = columns.get(state.sort);
  if (column) return valueAt(column, a.row, tileStep(a)) - valueAt(column, b.row, tileStep(b));
  const first = columns.get(state.tsc); // of equal needs the easier image comes first, by the smallest budget
  const sign = lowerIsBetter(state.op) ? 1 : -1;
  return needs()[a.row] - needs()[b.row] || (first ? sign * (valueAt(first, a.row, 0) - valueAt(first, b.row, 0)) : 0);
}

/** Whether a tile has what it is sorted by; those without come last, whichever way. @param {Tile} tile */
function isSortable(tile) {
  const column = columns.get(state.sort);
  if (!column) return true;
  const value = valueAt(column, tile.row, tileStep(tile));
  return column.words.length ? value >= 0 : !Number.isNaN(value);
}

function showGrid() {
  byId("sampled").textContent = sampledText();
  if (!tiles.length) {
    for (const id of ["bar", "tools", "images-status"]) byId(id).hidden = true;
    byId("grid-empty").hidden = false;
    byId("grid-empty").textContent = "No image of this table has tokens, so there is nothing to show.";
    return;
  }
  showBar();
  byId("grid").classList.toggle("no-pictures", !hasSprites);
  byId("grid").addEventListener("keydown", moveByKey);
  follow(["sort", "down", "query", "only", "filters", "tsc", "op", "thr"], arrange);
  // What a budget changes of the order or of the filters has to be looked at again when another one is shown.
  follow(["step", "at"], () => (columns.get(state.sort)?.perBudget || state.filters.length) && arrange());
  follow(["step", "at", "show", "tsc", "op", "thr", "sort"], showSteps);
  follow(["colour", "step", "at", "tsc", "thr", "op", "filters", "query"], showColours);
}

function sampledText() {
  const parts = [];
  if (N < data.of) parts.push(`All numbers are those of ${whole(N)} of ${whole(data.of)} images, drawn at random.`);
  if (tiles.length < N)
    parts.push(`${whole(tiles.length)} of ${whole(N)} images have pictures, as many of each need as there are.`);
  const originals = data.pictures.filter((picture) => picture.original).length;
  if (hasSprites && originals < tiles.length) {
    parts.push(
      originals
        ? `${plural(tiles.length - originals, "original")} could not be read again; these show reconstructions only.`
        : "The originals could not be found again, so reconstructions stand alone.",
    );
  }
  if (tiles.length && !hasSprites) parts.push("This page was made without pictures (--no-pictures).");
  return parts.join(" ");
}

/** Sort and restrict; Tab arrives at the tile that had the keyboard, else at the first. */
function arrange() {
  const held = order.find((tile) => tile.button === document.activeElement);
  const kept = passing();
  const need = needs();
  const list = tiles.filter((tile) => kept[tile.row] && (state.only === null || need[tile.row] === state.only));
  const sign = state.down ? -1 : 1;
  order = list.sort(
    (a, b) => Number(isSortable(b)) - Number(isSortable(a)) || sign * compareTiles(a, b) || a.row - b.row,
  );
  const fragment = document.createDocumentFragment();
  fragment.append(...order.map((tile) => tile.item));
  byId("grid").replaceChildren(fragment);
  const first = held && order.includes(held) ? held : order[0];
  for (const tile of order) tile.button.tabIndex = tile === first ? 0 : -1;
  if (held && held === first) held.button.focus({ preventScroll: true });
  const only =
    state.only === null
      ? ""
      : state.only === NEVER
        ? " that never get there"
        : ` that need ${budgets[state.only]} tokens`;
  byId("shown").textContent =
    plural(order.length, "image") +
    only +
    (state.query ? ` with “${state.query}” in the name` : "") +
    (state.filters.length ? ", filtered" : "");
  byId("all").hidden = state.only === null && !state.query && !state.filters.length;
  byId("grid-empty").hidden = order.length > 0;
  byId("grid-empty").textContent = "None of the images shown here is like that.";
  byId("more").textContent = `Show all ${whole(order.length)}`;
}

/** Move every tile to its picture, and write its value there. */
function showSteps() {
  const grid = byId("grid");
  grid.style.setProperty("--k", state.show === "original" ? "-1" : String(state.step));
  grid.classList.toggle("is-split", state.show === "split");
  grid.classList.toggle("is-error", state.show === "error");
  const column = tileColumn();
  const criterionColumn = columns.get(state.tsc);
  for (const tile of tiles) {
    const { frame, picture } = tile;
    if (frame) {
      if (state.show === "split" || state.show === "error") layOriginal(frame, picture);
      if (state.at === "need" && state.show !== "original") frame.style.setProperty("--k", String(tileStep(tile)));
      else frame.style.removeProperty("--k");
    }
    const value = column && valueAt(column, tile.row, tileStep(tile));
    tile.value.textContent = column ? tileValue(column, value ?? NaN) : "";
    const need = needs()[tile.row];
    tile.badge.textContent = !criterionColumn ? "" : need === NEVER ? "never" : `needs ${budgets[need]}`;
    tile.badge.classList.toggle("is-never", need === NEVER);
  }
}

/** @param {Column} column @param {number} value */
function tileValue(column, value) {
  if (column.words.length) return written(column, value);
  const short = column.key.startsWith("class_rank") ? "rank" : SHORT[column.key] || "";
  return `${short} ${digits(value)}`.trim();
}

function showColours() {
  const shown = classes();
  for (const tile of tiles) {
    tile.swatch.hidden = !shown;
    if (shown) tile.swatch.style.background = shown.colours[shown.of[tile.row]] ?? "var(--line)";
  }
}

function showBar() {
  const slider = byId("budget");
  slider.max = T - 1;
  slider.addEventListener("input", () => choose({ step: Number(slider.value), at: "budget" }));
  radios("at", criteria.length ? { budget: "One budget", need: "As needed" } : { budget: "One budget" });
  const looks = { decoded: "Decoded", original: "Original", split: "Split", error: "Error" };
  radios("show", hasOriginals ? looks : { decoded: "Decoded" });
  byId("show").hidden = !hasOriginals;
  const sort = byId("sort");
  if (criteria.length) sort.append(h("option", { value: "need" }, "tokens needed"));
  sort.append(
    h("option", { value: "name" }, "name"),
    h("option", { value: "table" }, "order of the table"),
    ...columnOptions([...columns.values()]),
  );
  sort.addEventListener("change", () => choose({ sort: sort.value }));
  byId("down").addEventListener("click", () => choose({ down: !state.down }));
  const query = byId("query");
  query.value = state.query;
  query.addEventListener("input", () => choose({ query: query.value }));
  query.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || !order[0]) return;
    event.preventDefault(); // otherwise the same key would press the dialog's first button
    openDetail(order[0]);
  });
  byId("all").addEventListener("click", () => {
    query.value = "";
    choose({ only: null, query: "", filters: [] });
  });
  byId("more").addEventListener("click", () => document.body.classList.add("shows-all"));
  byId("download").addEventListener("click", downloadList);
  follow(["step", "at", "show", "sort", "down", "tsc", "thr"], () => {
    slider.value = state.step;
    byId("budget-out").textContent =
      state.at === "need" ? "each its own" : `${budgets[state.step]} · ${whole(data.bits[state.step])} bits`;
    slider.setAttribute("aria-valuetext", `${budgets[state.step]} tokens`);
    for (const key of /** @type {const} */ (["at", "show"]))
      for (const radio of byId(key).querySelectorAll("input")) radio.checked = radio.value === state[key];
    sort.value = state.sort;
    byId("down").textContent = state.down ? "↓" : "↑";
    byId("down").setAttribute(
      "aria-label",
      state.down ? "Largest first; press for smallest first" : "Smallest first; press for largest first",
    );
  });
}

/** @param {"at" | "show"} key @param {Record<string, string>} names */
function radios(key, names) {
  for (const [value, name] of Object.entries(names)) {
    const radio = h("input", { type: "radio", name: key, value, change: () => choose({ [key]: value }) });
    byId(key).append(h("label", {}, radio, h("span", {}, name)));
  }
}

/**
 * Bring the images into view after a press on a chart: their own pane is scrolled, or the page where they lie below.
 */
function bringImages() {
  byId("pictures").scrollTop = 0;
  const { top, bottom } = byId("grid").getBoundingClientRect();
  if (top > innerHeight * 0.7 || bottom < 80) byId("pictures").scrollIntoView({ block: "start" });
}

/** The images on show as a csv: names, what they need, and the value of every column. */
function downloadList() {
  const used = [...columns.values()];
  const header = [
    "image",
    "need",
    ...used.map((column) => (column.perBudget ? `${column.key}_shown` : column.key)),
    "budget_shown",
  ];
  // All images that pass are listed, also those without a picture on this page.
  const [kept, need] = [passing(), needs()];
  const shownRows = order.map((tile) => tile.row);
  const hidden = [...Array(N).keys()].filter(
    (row) => kept[row] && (state.only === null || need[row] === state.only) && !shownRows.includes(row),
  );
  const rows = [...shownRows, ...hidden].map((row) => [
    images[row],
    criteria.length ? needName(need[row]) : "",
    ...used.map((column) =>
      column.words.length
        ? (column.words[valueAt(column, row, stepOf(row))] ?? "")
        : plain(valueAt(column, row, stepOf(row))),
    ),
    String(budgets[stepOf(row)]),
  ]);
  const text = [header, ...rows].map((cells) => cells.map(csvCell).join(",")).join("\n");
  const link = h("a", {
    href: URL.createObjectURL(new Blob([text, "\n"], { type: "text/csv" })),
    download: "images.csv",
  });
  link.click();
}

/** @param {number} value */
const plain = (value) => (Number.isNaN(value) ? "" : String(Number(value.toPrecision(7))));
/** @param {string} cell */
const csvCell = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** Arrow keys, Home and End go from tile to tile. @param {KeyboardEvent} event */
function moveByKey(event) {
  const here = order.findIndex((tile) => tile.button === document.activeElement);
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const across = getComputedStyle(byId("grid")).gridTemplateColumns.split(" ").length;
  /** @type {Record<string, number>} */
  const moves = {
    ArrowRight: 1,
    ArrowLeft: -1,
    ArrowDown: across,
    ArrowUp: -across,
    Home: -here,
    End: order.length - 1 - here,
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const there = Math.min(Math.max(here + moves[event.key], 0), order.length - 1);
  order[here].button.tabIndex = -1;
  order[there].button.tabIndex = 0;
  order[there].button.focus();
}
