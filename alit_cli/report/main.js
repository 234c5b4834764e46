// The rest of the page, and the start: header, facts, curve, panels of other analyses, links, theme, keys.

function showHead() {
  byId("name").textContent = data.table.split("/").pop();
  const codes = model.codes ? `${whole(model.codes)} codes` : `continuous latents of ${model.tokenDim} numbers`;
  const fits = { crop: "centre crop", squash: "squashed to a square", pad: "padded to a square" };
  const parts = [`model ${model.name}`, model.id, `${model.side} × ${model.side} pixels`, fits[model.fit] || model.fit, codes];
  byId("lead").append(...parts.flatMap((part, i) => [i ? " · " : "", h(part === model.id ? "code" : "span", {}, part)]));
  byId("foot").textContent = `Made by alit ${data.version} from ${data.table}. L1: mean absolute error of pixels in 0–1, against the fitted image; all numbers come from the table. Pictures are compressed (WebP).`;
}

function showFacts() {
  const failed = facts.rows - total;
  const bits = (t) => whole(data.bits[t]);
  const range = (show) => (T > 1 ? `${show(0)} – ${show(T - 1)}` : show(0));
  const known = facts.mean.filter((value) => value != null);
  const one = (name, value, under) => h("div", {}, h("dt", {}, name), h("dd", {}, value, under ? h("small", {}, under) : null));
  byId("facts").append(
    one("images", whole(total), failed ? `of ${plural(facts.rows, "row")}` : facts.rows ? "all of them read" : "the table is empty"),
    one("failed", whole(failed), Object.entries(facts.statuses).filter(([status]) => status !== "ok").map(([status, count]) => `${whole(count)} ${status}`).join(", ")),
    one("tokens an image", range((t) => String(budgets[t])), plural(T, "budget")),
    one("bits an image", range(bits), `${range((t) => (data.bits[t] / model.side ** 2).toFixed(3))} a pixel`),
    one("mean L1", known.length > 1 ? `${loss(known[0])} → ${loss(known.at(-1))}` : known.length ? loss(known[0]) : "–",
      model.stop != null ? `stopped early at L1 < ${model.stop}` : known.length ? "smallest to largest budget" : total ? "not in the table" : ""),
  );
  if (!failed) return;
  const box = byId("failed");
  box.hidden = false;
  box.querySelector("summary").textContent = `${plural(failed, "image")} could not be tokenized`;
  const rest = failed - facts.failures.length;
  box.append(h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, facts.failures.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))))));
  if (rest > 0) box.append(h("p", { class: "note" }, `and ${whole(rest)} more`));
}

function showCurve() {
  if (!hasLoss) {
    byId("curves").hidden = true;
    return;
  }
  chart(byId("curve"), 280, "Mean, median and quantiles of L1 against tokens", (place, width) => drawCurve(place, width, 280, null));
  const head = ["tokens", "bits", "images", "mean", "10 %", "25 %", "median", "75 %", "90 %"];
  const rows = budgets.map((budget, t) => [budget, whole(data.bits[t]), whole(facts.count[t]), ...[facts.mean[t], ...facts.quantiles[t]].map((value) => (value == null ? "–" : value.toFixed(4)))]);
  byId("curve-table").append(
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", { class: "number" }, String(cell)))))),
  );
}

function showPanels() {
  for (const panel of data.panels) {
    const title = `panel-${panel.topic}-title`;
    byId("panels").append(h("section", { id: `panel-${panel.topic}`, "aria-labelledby": title, class: "panel" },
      h("h2", { id: title }, panel.title),
      panel.figures.map(([name, uri]) => h("figure", { class: "plate" }, h("div", { class: "slide", tabindex: "0", role: "group", "aria-label": name }, h("img", { src: uri, alt: `${panel.title}: ${name}` })), h("figcaption", {}, name))),
      panel.left_out ? h("p", { class: "note" }, `${plural(panel.left_out, "more figure")} in the folder`) : null,
      panel.tables.map(csvTable),
    ));
  }
}

/** Links to the sections, because the images between them are many. */
function showNav() {
  const sections = [...document.querySelectorAll("main section")].filter((section) => !section.hidden);
  byId("nav").append(...sections.map((section) => h("a", { href: `#${section.id}` }, section.dataset.short || section.querySelector("h2").textContent)));
}

function csvTable(table) {
  const isNumber = (cell) => cell !== "" && !Number.isNaN(Number(cell));
  return h("details", { class: "more" },
    h("summary", {}, table.name, h("small", {}, table.rows > table.cells.length ? ` the first ${table.cells.length} of ${plural(table.rows, "row")}` : ` ${plural(table.rows, "row")}`)),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, table.columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, table.cells.map((row) => h("tr", {}, row.map((cell) => h("td", { class: isNumber(cell) ? "number" : null }, cell))))),
    )),
  );
}

/** Auto follows the system; the choice is remembered where the browser lets a file do so. */
function showTheme() {
  const names = { auto: "Auto", light: "Light", dark: "Dark" };
  let theme = "auto";
  try {
    theme = localStorage.getItem("alit-theme") || "auto";
  } catch { /* no storage for files here */ }
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = names[theme];
    byId("theme").setAttribute("aria-label", `Theme: ${names[theme]}`);
  };
  byId("theme").addEventListener("click", () => {
    theme = { auto: "light", light: "dark", dark: "auto" }[theme] || "auto";
    try {
      localStorage.setItem("alit-theme", theme);
    } catch { /* forgotten with the page */ }
    apply();
  });
  apply();
}

/** Single keys, where nothing is being typed: , and . change the budget, o and n the pictures, / finds. */
function showKeys() {
  if (!images.length || !hasPictures) return;
  byId("sampled").append(h("span", { class: "keys" }, h("kbd", {}, ","), " ", h("kbd", {}, "."), " fewer, more tokens  ", ...(data.sample.originals ? [h("kbd", {}, "o"), " original  "] : []), ...(hasLoss ? [h("kbd", {}, "n"), " as needed  "] : []), h("kbd", {}, "/"), " find  ", h("kbd", {}, "Enter"), " open"));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search], select, textarea");
    if (typing || dialog.open || event.altKey || event.ctrlKey || event.metaKey) return;
    const keys = {
      ",": () => choose({ step: Math.max(state.step - 1, 0), mode: "budget" }),
      ".": () => choose({ step: Math.min(state.step + 1, T - 1), mode: "budget" }),
      o: () => data.sample.originals && choose({ mode: state.mode === "original" ? "budget" : "original" }),
      n: () => hasLoss && choose({ mode: state.mode === "need" ? "budget" : "need" }),
      "/": () => byId("query").focus(),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
}

showTheme();
showHead();
showFacts();
showNeed();
showCurve();
showGrid();
showKeys();
showPanels();
showNav();
document.documentElement.dataset.ready = "true";
