// @ts-check
// The rest of the page, and the start: header, facts, panels of other analyses, links, theme, keys.

function showHead() {
  byId("name").textContent = /** @type {string} */ (data.path.split("/").pop());
  const codes = model.codes ? `${whole(model.codes)} codes` : `continuous latents of ${model.tokenDim} numbers`;
  /** @type {Record<string, string>} */
  const fits = {
    crop: "centre crop",
    squash: "squashed to a square",
    pad: "padded to a square",
    centre: "centre cut out, not resized",
  };
  const parts = [
    `model ${model.name}`,
    model.id,
    `${model.side} × ${model.side} pixels`,
    fits[model.fit] || model.fit,
    codes,
  ];
  byId("lead").append(
    ...parts.flatMap((part, i) => [i ? " · " : "", h(part === model.id ? "code" : "span", {}, part)]),
  );
  byId("foot").textContent =
    `Made by alit ${page.version} from ${data.path}. L1: mean absolute error of pixels in 0–1, against the fitted ` +
    `image; all numbers come from the tables.${compression()}`;
  const choice = byId("table");
  byId("tables").hidden = page.tables.length < 2;
  choice.append(
    ...page.tables.map((table, i) =>
      h("option", { value: i, selected: i === tableNumber }, `${table.path.split("/").pop()} · ${table.model.name}`),
    ),
  );
  choice.addEventListener("change", () => {
    // Another table is another page: everything is built anew, and the address keeps what was chosen.
    const wanted = new URLSearchParams(addressOfState());
    wanted.set("table", choice.value);
    location.hash = wanted.toString();
    location.reload();
  });
}

/** How the pictures are compressed: a blur or a block may be WebP's and not the tokenizer's. */
function compression() {
  const range = (/** @type {"quality" | "side"} */ key) => {
    const values = data.pictures.map((picture) => picture[key] ?? 0);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return least === most ? String(least) : `${least} to ${most}`;
  };
  if (!hasSprites) return "";
  return ` Pictures are WebP files of quality ${range("quality")}, ${range("side")} pixels wide.`;
}

function showFacts() {
  const failed = facts.rows - total;
  const bits = (/** @type {number} */ t) => whole(data.bits[t]);
  const range = (/** @type {(t: number) => string} */ show) => (T > 1 ? `${show(0)} – ${show(T - 1)}` : show(0));
  const known = facts.mean.filter((value) => value != null);
  /** @param {string} name @param {string} value @param {string} under */
  const one = (name, value, under) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value, under ? h("small", {}, under) : null));
  const others = Object.entries(facts.statuses).filter(([status]) => status !== "ok");
  byId("facts").append(
    one(
      "images",
      whole(total),
      failed ? `of ${plural(facts.rows, "row")}` : facts.rows ? "all of them were read" : "the table is empty",
    ),
    one("failed", whole(failed), others.map(([status, count]) => `${whole(count)} ${status}`).join(", ")),
    one(
      "tokens per image",
      range((t) => String(budgets[t])),
      plural(T, "budget"),
    ),
    one("bits per image", range(bits), `${range((t) => (data.bits[t] / model.side ** 2).toFixed(3))} per pixel`),
    one(
      "mean L1",
      known.length > 1 ? `${digits(known[0])} → ${digits(known[known.length - 1])}` : digits(known[0]),
      model.stop != null
        ? `stopped early at L1 < ${model.stop}`
        : known.length
          ? "smallest to largest budget"
          : total
            ? "not in the table"
            : "",
    ),
  );
  if (data.leftOut.length) byId("left-out").append(...data.leftOut.map((sentence) => h("li", {}, sentence)));
  byId("left-out").hidden = !data.leftOut.length;
  if (failed) showFailures(failed);
}

/** @param {number} failed */
function showFailures(failed) {
  const box = byId("failed");
  box.hidden = false;
  box.querySelector("summary").textContent = `${plural(failed, "image")} could not be tokenized`;
  const rest = failed - facts.failures.length;
  const rows = facts.failures.map((row) =>
    h(
      "tr",
      {},
      row.map((cell) => h("td", {}, cell)),
    ),
  );
  box.append(h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, rows))));
  if (rest > 0) box.append(h("p", { class: "note" }, `and ${whole(rest)} more`));
}

function showPanels() {
  for (const panel of page.panels) {
    const title = `panel-${panel.topic}-title`;
    byId("panels").append(
      h(
        "section",
        { id: `panel-${panel.topic}`, "aria-labelledby": title, class: "panel" },
        h("h2", { id: title }, panel.title),
        panel.figures.map((drawing) => figure(panel, drawing)),
        panel.left_out ? h("p", { class: "note" }, `${plural(panel.left_out, "more figure")} in the folder`) : null,
        panel.tables.map(csvTable),
      ),
    );
  }
  const strangers = page.strangers || [];
  if (strangers.length)
    byId("panels").append(
      h(
        "p",
        { class: "note" },
        `Left out, because they were computed from another table or other images: ${strangers.join(", ")}.`,
      ),
    );
}

/**
 * A figure; one without photographs is turned to light on dark where the page is dark.
 * @param {PanelData} panel
 * @param {PanelData["figures"][0]} drawing
 */
function figure(panel, { name, uri, photographs }) {
  const image = h("img", {
    src: uri,
    alt: `${panel.title}: ${name}`,
    class: photographs ? "photographs" : null,
    loading: "lazy",
  });
  return h(
    "figure",
    { class: "plate" },
    h("div", { class: "slide", tabindex: "0", role: "group", "aria-label": name }, image),
    h("figcaption", {}, name),
  );
}

/** @param {CsvData} table */
function csvTable(table) {
  const isNumber = (/** @type {string} */ cell) => cell !== "" && !Number.isNaN(Number(cell));
  // A column is set right where all of its cells are numbers or empty, its heading with it.
  const right = table.columns.map((_, i) => table.cells.every((row) => row[i] === "" || isNumber(row[i])));
  const kind = (/** @type {number} */ i) => (right[i] ? "number" : null);
  return h(
    "details",
    { class: "more" },
    h(
      "summary",
      {},
      table.name,
      h(
        "small",
        {},
        table.rows > table.cells.length
          ? ` the first ${table.cells.length} of ${plural(table.rows, "row")}`
          : ` ${plural(table.rows, "row")}`,
      ),
    ),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            table.columns.map((name, i) => h("th", { scope: "col", class: kind(i) }, name)),
          ),
        ),
        h(
          "tbody",
          {},
          table.cells.map((row) =>
            h(
              "tr",
              {},
              row.map((cell, i) => h("td", { class: kind(i) }, cell)),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Links to the sections; they scroll, because the address is the state's. */
function showNav() {
  const sections = /** @type {HTMLElement[]} */ (
    [...document.querySelectorAll("main section")].filter((section) => !(/** @type {HTMLElement} */ (section).hidden))
  );
  for (const section of sections) {
    const name = section.dataset.short || section.querySelector("h2")?.textContent;
    byId("nav").append(h("a", { href: `#${section.id}`, "data-to": section.id }, name));
  }
  for (const link of document.querySelectorAll("a[data-to]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const target = byId(/** @type {HTMLElement} */ (link).dataset.to || "");
      target.scrollIntoView({ block: "start" });
      target.querySelector("button, input, select, summary, a")?.focus({ preventScroll: true });
    });
  }
}

/** Auto follows the system; the choice is remembered where the browser lets a file do so. */
function showTheme() {
  const names = /** @type {Record<string, string>} */ ({
    auto: "Theme: auto",
    light: "Theme: light",
    dark: "Theme: dark",
  });
  let theme = "auto";
  try {
    theme = localStorage.getItem("alit-theme") || "auto";
  } catch {
    /* no storage for files here */
  }
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = names[theme] || names.auto;
  };
  byId("theme").addEventListener("click", () => {
    theme = /** @type {Record<string, string>} */ ({ auto: "light", light: "dark", dark: "auto" })[theme] || "auto";
    try {
      localStorage.setItem("alit-theme", theme);
    } catch {
      /* forgotten with the page */
    }
    apply();
  });
  apply();
}

/** Single keys, where nothing is being typed. */
function showKeys() {
  if (!tiles.length) return;
  const toggle = (/** @type {string} */ show) =>
    hasOriginals && choose({ show: state.show === show ? "decoded" : show });
  /** @type {Record<string, () => any>} */
  const keys = {
    ",": () => choose({ step: Math.max(state.step - 1, 0), at: "budget" }),
    ".": () => choose({ step: Math.min(state.step + 1, T - 1), at: "budget" }),
    n: () => criteria.length && choose({ at: state.at === "need" ? "budget" : "need" }),
    o: () => toggle("original"),
    s: () => toggle("split"),
    e: () => toggle("error"),
    "/": () => byId("query").focus(),
  };
  const told = [
    [", .", "fewer, more tokens"],
    ["n", "as needed"],
    ...(hasOriginals ? [["o s e", "original, split, error"]] : []),
    ["/", "find"],
    ["Enter", "open"],
  ];
  byId("keys").append(
    ...told.flatMap(([signs, text]) => [...signs.split(" ").map((sign) => h("kbd", {}, sign)), ` ${text}  `]),
  );
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const typing = target.matches("input[type=search], input[type=number], select, textarea");
    if (typing || dialog.open || event.altKey || event.ctrlKey || event.metaKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
}

showTheme();
showHead();
showFacts();
showNeed();
showCapacity();
showFilters();
showGrid();
showKeys();
showPanels();
showNav();
const openAtFirst = tiles.find((tile) => tile.name === state.open);
if (openAtFirst) openDetail(openAtFirst);
document.documentElement.dataset.ready = "true";
