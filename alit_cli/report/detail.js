// @ts-check
// One image, opened: original, reconstruction and error side by side, every budget in a row, all scores, its ids.

const dialog = byId("detail");
/** @type {Tile | null} */
let opened = null;

/** @param {Tile} tile */
function openDetail(tile) {
  opened = tile;
  drawDetail();
  if (!dialog.open) dialog.showModal();
  choose({ open: tile.name });
}

/** @param {number} by */
function turn(by) {
  const there = opened && order[order.indexOf(opened) + by];
  if (there) openDetail(there);
}

dialog.addEventListener("click", (/** @type {Event} */ event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => {
  const tile = opened;
  opened = null;
  dialog.replaceChildren();
  choose({ open: "" });
  if (tile) {
    for (const { button } of order) button.tabIndex = -1;
    tile.button.tabIndex = 0;
    tile.button.focus();
  }
});
dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  /** @type {Record<string, [number, number]>} */
  const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const [steps, by] = moves[event.key];
  if (steps) stepTo(state.step + steps);
  else turn(by);
});

/** @param {number} step */
function stepTo(step) {
  if (!opened) return;
  choose({ step: Math.min(Math.max(step, 0), lastStep(opened.picture)), at: "budget" });
  drawDetail(true);
}

/** Draw the opened image; `stays` says that it was open before and the keyboard stays where it is. */
function drawDetail(stays = false) {
  if (!opened) return;
  const { picture, row } = opened;
  const step = Math.min(state.step, lastStep(picture));
  const held = stays && document.activeElement instanceof HTMLElement ? document.activeElement.dataset.stay : null;
  const column = columns.get(state.tsc);
  dialog.replaceChildren(
    detailHead(),
    picture.sprite ? detailPictures(picture, row, step) : "",
    picture.sprite ? ladder(picture, row, step) : "",
    h(
      "div",
      { class: "detail-body" },
      detailScores(row, step, lastStep(picture)),
      h(
        "div",
        { class: "side" },
        column && column.perBudget ? detailCurve(column, row) : null,
        detailFacts(picture, row, step),
      ),
    ),
    detailIds(picture, step),
  );
  const target = held && dialog.querySelector(`[data-stay="${held}"]`);
  (target || dialog.querySelector("[data-stay=close]")).focus({ preventScroll: stays });
  if (!stays) dialog.scrollTop = 0;
}

function detailHead() {
  const tile = /** @type {Tile} */ (opened);
  const place = order.indexOf(tile);
  /**
   * @param {string} stay
   * @param {string} label
   * @param {string} text
   * @param {() => void} click
   * @param {boolean} disabled
   */
  const button = (stay, label, text, click, disabled) =>
    h(
      "button",
      { type: "button", class: "quiet", "data-stay": stay, "aria-label": label, title: label, click, disabled },
      text,
    );
  return h(
    "header",
    { class: "detail-head" },
    h("h2", { id: "detail-name" }, tile.name),
    h("span", { class: "detail-place" }, `${place + 1} of ${order.length}`),
    button("back", "Image before (←)", "←", () => turn(-1), place <= 0),
    button("on", "Next image (→)", "→", () => turn(1), place === order.length - 1),
    button("close", "Close (Esc)", "✕", () => dialog.close(), false),
  );
}

/** @param {PictureData} picture @param {number} row @param {number} step */
function detailPictures(picture, row, step) {
  const name = images[row];
  /** @param {string} label @param {number} k @param {string} [kind] */
  const one = (label, k, kind) => {
    const frame = windowOnto(picture, `${name}, ${label}`);
    frame.style.setProperty("--k", String(k));
    if (kind) layOriginal(frame, picture);
    if (kind === "is-error") frame.classList.add(kind);
    else if (kind) splitUnderPointer(frame, picture);
    return h("figure", {}, frame, h("figcaption", {}, label));
  };
  const l1 = columns.get("l1");
  const error = l1 ? `, L1 ${digits(l1.values[row * T + step])}` : "";
  return h(
    "div",
    { class: "triple" },
    picture.original ? one("original", -1) : null,
    one(`${budgets[step]} tokens`, step, "is-pointed"),
    picture.original ? one(`difference × 4${error}`, step, "is-error") : null,
  );
}

/** @param {PictureData} picture @param {number} row @param {number} step */
function ladder(picture, row, step) {
  const need = needs()[row];
  const column = columns.get(state.tsc);
  const steps = [...Array(lastStep(picture) + 1).keys()];
  return h(
    "div",
    { class: "ladder", role: "group", "aria-label": "Reconstructions at every budget (↑ ↓)" },
    steps.map((t) => {
      const frame = windowOnto(picture, "");
      frame.style.setProperty("--k", String(t));
      const note = need === t ? "needed" : column && column.perBudget ? digits(valueAt(column, row, t)) : "";
      return h(
        "button",
        {
          type: "button",
          "data-stay": `step-${t}`,
          "aria-pressed": String(t === step),
          class: need === t ? "is-need" : null,
          click: () => stepTo(t),
        },
        frame,
        h("span", {}, String(budgets[t])),
        h("small", {}, note),
      );
    }),
  );
}

/**
 * Every measure and what each network sees, at every budget and on the original.
 * @param {number} row
 * @param {number} step
 * @param {number} last
 */
function detailScores(row, step, last) {
  const list = [...measures, ...guesses];
  if (!list.length) return h("p", { class: "note" }, "No scores lie beside this table.");
  const body = budgets.slice(0, last + 1).map((budget, t) =>
    h(
      "tr",
      { class: t === step ? "is-here" : null },
      h("th", { scope: "row" }, String(budget)),
      list.map((column) => scoreCell(column, valueAt(column, row, t), needs()[row] === t && column.key === state.tsc)),
    ),
  );
  const originals = list.some((column) => column.originals)
    ? h(
        "tr",
        { class: "is-original" },
        h("th", { scope: "row" }, "original"),
        list.map((column) => scoreCell(column, column.originals ? column.originals[row] : NaN, false)),
      )
    : null;
  return h(
    "div",
    { class: "scroll scores", tabindex: "0", role: "group", "aria-label": "Scores at every budget" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "tokens"),
          list.map((column) => h("th", { scope: "col", title: column.label }, shortLabel(column))),
        ),
      ),
      h("tbody", {}, body, originals),
    ),
  );
}

/** @param {Column} column */
function shortLabel(column) {
  const [own, network] = column.key.split("@");
  /** @type {Record<string, string>} */
  const names = {
    class_rank: "rank",
    class_prob: "probability",
    class_guess: "seen as",
    depth_error: "depth error",
    depth_delta1: "depth δ1",
    answer_agreement: "answers",
    thumbnail: "thumbnail",
  };
  return [SHORT[own] || names[own] || own, network ? h("small", {}, ` ${network}`) : null];
}

/** @param {Column} column @param {number} value @param {boolean} needed */
function scoreCell(column, value, needed) {
  const known = column.words.length ? value >= 0 : !Number.isNaN(value);
  const kind = [column.words.length ? "word-cell" : "number", needed ? "is-needed" : ""].join(" ").trim();
  return h("td", { class: kind }, known ? written(column, value) : "–");
}

/** @param {Column} column @param {number} row */
function detailCurve(column, row) {
  const host = h("div", { class: "detail-curve" });
  chart(host, 200, `${nameOf(column)} of ${images[row]} against tokens, over the band of all images`, (place, width) =>
    drawCurve(place, width, 200, column, row),
  );
  return h("figure", {}, h("figcaption", {}, `${column.label}: this image over the band of all`), host);
}

/** @param {PictureData} picture @param {number} row @param {number} step */
function detailFacts(picture, row, step) {
  /** @param {string} name @param {string} value */
  const pair = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const need = needs()[row];
  const [width, height] = data.sizes[row];
  const known = [...groups, ...numbers].filter((column) => !["width", "height"].includes(column.key));
  return h(
    "dl",
    { class: "detail-facts" },
    pair("size", `${width} × ${height}`),
    pair("bits", `${whole(data.bits[step])} (${(data.bits[step] / model.side ** 2).toFixed(4)} per pixel)`),
    columns.get(state.tsc)
      ? pair(`need at ${digits(state.thr)}`, need === NEVER ? "never" : `${budgets[need]} tokens`)
      : null,
    picture.sprite ? pair("pictures", `WebP of quality ${picture.quality}, ${picture.side} pixels`) : null,
    known.map((column) => pair(column.label, written(column, valueAt(column, row, step)))),
    data.sources[row] ? h("div", { class: "whole" }, h("dt", {}, "source"), h("dd", {}, data.sources[row])) : null,
  );
}

/** The ids of every budget that the image reached. @param {PictureData} picture */
function idsOf(picture) {
  const view = bytesOf(picture.ids || "");
  const found = [];
  let at = 0;
  for (let t = 0; t < T && 2 * (at + budgets[t]) <= view.byteLength; t++) {
    const start = at;
    found.push(Array.from({ length: budgets[t] }, (_, i) => view.getUint16(2 * (start + i), true)));
    at += budgets[t];
  }
  return found;
}

/** @param {PictureData} picture @param {number} step */
function detailIds(picture, step) {
  if (picture.ids == null) return h("p", { class: "note" }, "A continuous model: its latents are not shown here.");
  const ids = idsOf(picture);
  const now = ids[step] || [];
  const before = step ? ids[step - 1] : [];
  const changed = before.filter((id, i) => id !== now[i]).length;
  const told = step
    ? `Of the first ${before.length}, ${changed} changed when the image was read again; the others are kept, ` +
      `${now.length - before.length} are new.`
    : "The first iteration: all of them are new.";
  /** @param {number} i */
  const kind = (i) => (i >= before.length ? "new" : before[i] === now[i] ? "" : "changed");
  return h(
    "section",
    { class: "ids" },
    h("h3", {}, `Token ids at ${budgets[step]}`),
    h("p", { class: "note" }, told),
    h(
      "p",
      { class: "legend" },
      h("span", { class: "k-kept" }, "kept"),
      step ? h("span", { class: "k-changed" }, "changed") : null,
      h("span", { class: "k-new" }, "new"),
    ),
    h(
      "ol",
      { class: "codes" },
      now.map((id, i) => h("li", { class: kind(i) }, String(id))),
    ),
  );
}
