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
 */
function windowOnto(picture, label) {
  const frame = h("span", { class: "frame" }, spriteImage(picture, label));
  frame.style.setProperty("--frames", String(picture.frames));
  frame.style.setProperty("--origin", picture.original ? "1" : "0");
  frame.style.setProperty("--last", String(lastStep(picture)));
  return frame;
}

/** @param {PictureData} picture @param {string} label @param {string} [kind] */
function spriteImage(picture, label, kind) {
  return h("img", { alt: label, class: kind, decoding: "async", draggable: "false", src: addressOf(picture) });
}

/**
 * Lay the original over a window's reconstruction, once: beside it (split) or as the difference (error), as CSS says.
 * @param {HTMLElement} frame
 * @param {PictureData} picture
 */
function layOriginal(frame, picture) {
  if (picture.original && !frame.querySelector(".over")) frame.append(spriteImage(picture, "", "over"));
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
