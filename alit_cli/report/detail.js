// One image, opened: its original beside a reconstruction, every budget in a row, its curve and its ids.

const dialog = byId("detail");
let opened = null; // a place in `order`

function openDetail(index) {
  opened = order.findIndex((tile) => tile.index === index);
  drawDetail();
  if (!dialog.open) dialog.showModal();
}

function turn(by) {
  const there = opened + by;
  if (there < 0 || there >= order.length) return;
  opened = there;
  drawDetail();
}

dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => {
  const tile = order[opened];
  opened = null;
  dialog.replaceChildren();
  if (tile) {
    for (const { button } of order) button.tabIndex = -1;
    tile.button.tabIndex = 0;
    tile.button.focus();
  }
});
dialog.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const [steps, by] = moves[event.key];
  if (steps) stepTo(state.step + steps);
  else turn(by);
});

function stepTo(step) {
  const last = lastStep(order[opened].image);
  choose({ step: Math.min(Math.max(step, 0), last), mode: state.mode === "original" ? "budget" : state.mode });
  if (state.mode === "need") choose({ mode: "budget" });
  drawDetail(true);
}

/** Draw the opened image; `kept` says that it was open before and the keyboard stays where it is. */
function drawDetail(kept = false) {
  const { image } = order[opened];
  const step = Math.min(state.step, lastStep(image));
  const focus = kept ? document.activeElement?.dataset?.stay : null;
  dialog.replaceChildren(
    detailHead(image),
    h("div", { class: "detail-body" },
      h("div", { class: "pair" }, image.original && picture(image, -1, "original"), picture(image, step, `${budgets[step]} tokens`, image.l1[step])),
      h("div", { class: "side" }, hasLoss ? detailCurve(image) : null, detailFacts(image, step)),
    ),
    ladder(image, step),
    detailIds(image, step),
  );
  const target = focus && dialog.querySelector(`[data-stay="${focus}"]`);
  (target || dialog.querySelector("[data-stay=close]")).focus({ preventScroll: kept });
  if (!kept) dialog.scrollTop = 0;
}

function detailHead(image) {
  const button = (stay, label, text, click, disabled) => h("button", { type: "button", class: "quiet", "data-stay": stay, "aria-label": label, title: label, click, disabled }, text);
  return h("header", { class: "detail-head" },
    h("h2", { id: "detail-name" }, image.image),
    h("span", { class: "detail-place" }, `${opened + 1} of ${order.length}`),
    button("back", "Image before (←)", "←", () => turn(-1), opened === 0),
    button("on", "Next image (→)", "→", () => turn(1), opened === order.length - 1),
    button("close", "Close (Esc)", "✕", () => dialog.close(), false),
  );
}

function picture(image, step, name, value) {
  const frame = strip(image, `${image.image}, ${name}`);
  frame.style.setProperty("--k", step);
  return h("figure", {}, frame, h("figcaption", {}, h("span", {}, name), value == null ? null : h("span", {}, `L1 ${loss(value)}`)));
}

function ladder(image, step) {
  const steps = [...Array(lastStep(image) + 1).keys()];
  return h("div", { class: "ladder", role: "group", "aria-label": "Reconstructions at every budget (↑ ↓)" }, steps.map((t) => {
    const frame = strip(image, "");
    frame.style.setProperty("--k", t);
    const fine = hasLoss && needOf(image) === t;
    return h("button", { type: "button", "data-stay": `step-${t}`, "aria-pressed": String(t === step), class: fine ? "is-need" : null, click: () => stepTo(t) },
      frame, h("span", {}, String(budgets[t])), h("small", {}, fine ? "needed" : hasLoss ? loss(image.l1[t]) : ""));
  }));
}

function detailCurve(image) {
  const host = h("div", { class: "detail-curve" });
  chart(host, 210, `L1 of ${image.image} against tokens, over the band of all images`, (place, width) => drawCurve(place, width, 210, image));
  return host;
}

const MEASURES = {
  jpeg_bytes: ["JPEG", (value) => `${whole(value)} B`],
  png_bytes: ["PNG", (value) => `${whole(value)} B`],
  edge_density: ["edges", percent],
  entropy: ["grey entropy", (value) => `${value.toFixed(2)} bits`],
  mad: ["contrast", loss],
};

function detailFacts(image, step) {
  const pair = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const need = hasLoss ? needOf(image) : null;
  const about = [
    pair("size", `${image.width} × ${image.height}`),
    pair("bits", `${whole(data.bits[step])} (${(data.bits[step] / model.side ** 2).toFixed(4)} a pixel)`),
    need === null ? null : pair(`need at ${threshold(thresholds[state.thr])}`, need === NEVER ? "never" : `${budgets[need]} tokens`),
    ...Object.entries(MEASURES).filter(([key]) => image.measures[key] != null).map(([key, [name, show]]) => pair(name, show(image.measures[key]))),
    image.source ? h("div", { class: "whole" }, h("dt", {}, "source"), h("dd", {}, image.source)) : null,
  ];
  return h("dl", { class: "detail-facts" }, about);
}

/** The ids of every budget that the image reached. */
function idsOf(image) {
  const bytes = Uint8Array.from(atob(image.ids), (sign) => sign.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const found = [];
  let at = 0;
  for (let t = 0; t <= lastStep(image); t++) {
    found.push(Array.from({ length: budgets[t] }, (_, i) => view.getUint16(2 * (at + i), true)));
    at += budgets[t];
  }
  return found;
}

function detailIds(image, step) {
  if (image.ids == null) return h("p", { class: "note" }, "A continuous model: its latents are not shown here.");
  const ids = idsOf(image);
  const before = step ? ids[step - 1] : [];
  const changed = before.filter((id, i) => id !== ids[step][i]).length;
  const told = step ? `Of the first ${before.length}, ${changed} changed when the image was read again; the others are kept, ${ids[step].length - before.length} are new.` : "The first iteration: all of them are new.";
  const kind = (i) => (i >= before.length ? "new" : before[i] === ids[step][i] ? "" : "changed");
  return h("section", { class: "ids" },
    h("h3", {}, `Token ids at ${budgets[step]}`), h("p", { class: "note" }, told),
    h("p", { class: "legend" }, h("span", { class: "k-kept" }, "kept"), step ? h("span", { class: "k-changed" }, "changed") : null, h("span", { class: "k-new" }, "new")),
    h("ol", { class: "codes" }, ids[step].map((id, i) => h("li", { class: kind(i) }, String(id)))),
  );
}
