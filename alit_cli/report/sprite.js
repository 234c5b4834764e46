// @ts-check
// Pictures: windows onto the sprite of an image, its original and reconstructions side by side in one WebP.

/** @type {Map<number, string>} Addresses of decoded sprites by place, so that two windows share one picture. */
const addresses = new Map();

/** @param {PictureData} picture */
function addressOf(picture) {
  let address = addresses.get(picture.place);
  if (address === undefined) {
    address = URL.createObjectURL(new Blob([bytesOf(picture.sprite || "")], { type: "image/webp" }));
    addresses.set(picture.place, address);
  }
  return address;
}

/** @type {WeakMap<Element, PictureData>} Pictures of a grid that have not been near the view yet. */
const waiting = new WeakMap();
/**
 * How near. The second one is for the pane that the images scroll in on a wide screen; older browsers do not know it.
 * @type {IntersectionObserverInit & {scrollMargin?: string}}
 */
const MARGINS = { rootMargin: "600px", scrollMargin: "600px" };
/** Decodes a picture when it comes near: a page of 200 would else not be ready before all of them are. */
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const picture = isIntersecting && waiting.get(target);
    if (!picture) continue;
    near.unobserve(target);
    waiting.delete(target);
    /** @type {HTMLImageElement} */ (target).src = addressOf(picture);
  }
}, MARGINS);

/**
 * The place of the last budget that an image has tokens for: not of the largest where the run stopped early.
 * @param {PictureData} picture
 */
function lastStep(picture) {
  return picture.frames == null ? T - 1 : picture.frames - (picture.original ? 1 : 0) - 1;
}

/**
 * A window onto an image's sprite; CSS moves the sprite to the budget that --k says (-1: the original).
 * @param {PictureData} picture
 * @param {string} label
 * @param {boolean} [waits] until it comes near the view
 */
function windowOnto(picture, label, waits = false) {
  const frame = h("span", { class: "frame" }, spriteImage(picture, label, undefined, waits));
  frame.style.setProperty("--frames", String(picture.frames));
  frame.style.setProperty("--origin", picture.original ? "1" : "0");
  frame.style.setProperty("--last", String(lastStep(picture)));
  return frame;
}

/** @param {PictureData} picture @param {string} label @param {string} [kind] @param {boolean} [waits] */
function spriteImage(picture, label, kind, waits = false) {
  const src = waits ? null : addressOf(picture);
  const image = h("img", { alt: label, class: kind, decoding: "async", draggable: "false", src });
  if (waits) {
    waiting.set(image, picture);
    near.observe(image);
  }
  return image;
}

/**
 * Lay the original over a window's reconstruction, once: beside it (split) or as the difference (error), as CSS says.
 * @param {HTMLElement} frame
 * @param {PictureData} picture
 */
function layOriginal(frame, picture) {
  if (!picture.original || frame.querySelector(".over")) return;
  // It is one picture with the reconstruction below it, and waits where that one waits.
  const waits = waiting.has(/** @type {Element} */ (frame.firstElementChild));
  frame.append(spriteImage(picture, "", "over", waits));
}

/**
 * While the pointer is over a window, the original shows left of it and the reconstruction right of it.
 * @param {HTMLElement} frame
 * @param {PictureData} picture
 */
function splitUnderPointer(frame, picture) {
  if (!picture.original) return;
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    layOriginal(frame, picture);
    const box = frame.getBoundingClientRect();
    frame.style.setProperty("--split", `${((event.clientX - box.left) / box.width) * 100}%`);
    frame.classList.add("is-split");
  });
  frame.addEventListener("pointerleave", () => {
    frame.classList.remove("is-split");
    frame.style.removeProperty("--split");
  });
}
