// The images: tiles that all move to another picture at once, a bar of controls, sorting, finding, arrow keys.

const tiles = images.map((image, index) => ({ image, index, item: null, button: null, value: null, badge: null }));
let order = tiles; // those on show, in their order

const SORTS = {
  need: ["tokens needed", (a, b) => needOf(a.image) - needOf(b.image) || a.image.l1[0] - b.image.l1[0]],
  hard: ["L1, largest first", (a, b) => errorOf(b.image) - errorOf(a.image)],
  easy: ["L1, smallest first", (a, b) => errorOf(a.image) - errorOf(b.image)],
  name: ["name", (a, b) => a.image.image.localeCompare(b.image.image, "en", { numeric: true })],
  table: ["order of the table", (a, b) => a.index - b.index],
};

function errorOf(image) {
  const step = state.mode === "original" ? state.step : shownStep(image);
  return image.l1[Math.min(step, lastStep(image))] ?? Infinity;
}

/** The picture of an image inside a frame: one long strip, moved by CSS to what --k says. */
function strip(image, label) {
  const picture = h("img", { alt: label, decoding: "async", draggable: "false", src: `data:image/webp;base64,${image.strip}` });
  const frame = h("span", { class: "frame" }, picture);
  frame.style.setProperty("--frames", image.frames);
  frame.style.setProperty("--origin", image.original ? 1 : 0);
  frame.style.setProperty("--last", lastStep(image));
  return frame;
}

function showGrid() {
  const shown = images.length;
  byId("sampled").textContent = sampledText(shown);
  if (!shown || !hasPictures) {
    byId("bar").hidden = true;
    byId("grid-empty").hidden = false;
    byId("grid-empty").textContent = shown ? "This page was made without pictures (--no-pictures)." : "No image of this table has tokens, so there is nothing to show.";
    return;
  }
  showBar();
  for (const tile of tiles) makeTile(tile);
  byId("grid").addEventListener("keydown", moveByKey);
  follow(["sort", "query", "only", ...(hasLoss ? ["thr"] : [])], arrange);
  follow(["step", "mode"], () => state.sort === "hard" || state.sort === "easy" ? arrange() : null);
  follow(["step", "mode", "thr"], showSteps);
}

function sampledText(shown) {
  const { of, originals, pictures } = data.sample;
  const parts = [];
  if (shown < of) parts.push(`${whole(shown)} of ${whole(of)} images are shown, drawn at random with each need alike as far as it goes. The counts and curves above are over all of them.`);
  if (pictures && shown && originals < shown) {
    parts.push(originals ? `${plural(shown - originals, "original")} could not be read again; these show reconstructions only.` : "The originals could not be found again, so reconstructions stand alone.");
  }
  return parts.join(" ");
}

function makeTile(tile) {
  const { image, index } = tile;
  tile.value = h("span", { class: "tile-l1" });
  tile.badge = h("span", { class: "tile-need" });
  tile.frame = strip(image, "");
  const name = image.image.split("/").pop();
  tile.button = h(
    "button", { type: "button", class: "tile", tabindex: "-1", title: image.image, click: () => openDetail(index) },
    tile.frame, h("span", { class: "tile-name" }, name), h("span", { class: "tile-line" }, tile.value, tile.badge),
  );
  tile.item = h("li", {}, tile.button);
}

/** Sort and restrict; the first tile is where Tab arrives. */
function arrange() {
  const words = state.query.toLowerCase();
  const found = tiles.filter(({ image }) => image.image.toLowerCase().includes(words) && (state.only === null || needOf(image) === state.only));
  order = found.sort(SORTS[state.sort][1]);
  const fragment = document.createDocumentFragment();
  fragment.append(...order.map((tile) => tile.item));
  byId("grid").replaceChildren(fragment);
  order.forEach((tile, i) => (tile.button.tabIndex = i ? -1 : 0));
  const only = state.only === null ? "" : state.only === NEVER ? " that never get there" : ` that need ${budgets[state.only]} tokens`;
  byId("shown").textContent = `${plural(order.length, "image")}${only}${words ? ` with “${state.query}” in the name` : ""}`;
  byId("all").hidden = state.only === null && !words;
  byId("grid-empty").hidden = order.length > 0;
  byId("grid-empty").textContent = "None of the images shown here is like that.";
}

/** Move every tile to its picture, and write its error there. */
function showSteps() {
  byId("grid").style.setProperty("--k", state.mode === "original" ? -1 : state.step);
  for (const tile of tiles) {
    const step = shownStep(tile.image);
    if (state.mode === "need") tile.frame.style.setProperty("--k", step);
    else tile.frame.style.removeProperty("--k");
    const original = step < 0 && tile.image.original;
    tile.value.textContent = original ? "original" : hasLoss ? `L1 ${loss(tile.image.l1[Math.max(step, 0)])}` : "";
    const need = hasLoss ? needOf(tile.image) : NEVER;
    tile.badge.textContent = !hasLoss ? "" : need === NEVER ? "never" : `needs ${budgets[need]}`;
    tile.badge.classList.toggle("is-never", need === NEVER);
    tile.badge.title = need === NEVER ? "never gets below the threshold" : `needs ${budgets[need]} tokens`;
  }
}

function showBar() {
  const slider = byId("budget");
  slider.max = T - 1;
  slider.addEventListener("input", () => choose({ step: Number(slider.value), mode: "budget" }));
  const modes = { budget: "One budget", need: "As needed", original: "Original" };
  if (!hasLoss) delete modes.need;
  if (!data.sample.originals) delete modes.original;
  for (const [mode, name] of Object.entries(modes)) {
    const radio = h("input", { type: "radio", name: "mode", value: mode, change: () => choose({ mode }) });
    byId("mode").append(h("label", {}, radio, h("span", {}, name)));
  }
  for (const [key, [name]] of Object.entries(SORTS)) {
    if (hasLoss || key === "name" || key === "table") byId("sort").append(h("option", { value: key }, name));
  }
  byId("sort").addEventListener("change", (event) => choose({ sort: event.target.value }));
  byId("query").addEventListener("input", (event) => choose({ query: event.target.value }));
  byId("all").addEventListener("click", () => {
    byId("query").value = "";
    choose({ only: null, query: "" });
  });
  follow(["step", "mode", "sort"], () => {
    slider.value = state.step;
    const text = `${budgets[state.step]} · ${whole(data.bits[state.step])} bits`;
    byId("budget-out").textContent = { budget: text, need: "each its own", original: "–" }[state.mode];
    slider.setAttribute("aria-valuetext", `${budgets[state.step]} tokens`);
    for (const radio of byId("mode").querySelectorAll("input")) radio.checked = radio.value === state.mode;
    byId("sort").value = state.sort;
  });
}

/** Arrow keys, Home and End go from tile to tile. */
function moveByKey(event) {
  const here = order.findIndex((tile) => tile.button === document.activeElement);
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const across = getComputedStyle(byId("grid")).gridTemplateColumns.split(" ").length;
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -here, End: order.length - 1 - here };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const there = Math.min(Math.max(here + moves[event.key], 0), order.length - 1);
  order[here].button.tabIndex = -1;
  order[there].button.tabIndex = 0;
  order[there].button.focus();
}
