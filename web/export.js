// Saves a turn as JSON, and a drawing as PNG.

import { save } from "./dom.js";

const COPIED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "paint-order", "font-family", "font-size", "font-weight"];
const MARGIN = 16;
const DENSITY = 2; // pixels for each of the drawing's

export function saveJson(name, value) {
  save(`${name}.json`, new Blob([JSON.stringify(value, null, 2)], { type: "application/json" }));
}

/** Save an SVG as it looks now. Its colours come from a style sheet, which an image has not: they are copied into it. */
export async function savePng(name, drawing) {
  const { width, height } = drawing.viewBox.baseVal;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(withLooks(drawing, width, height)))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = (width + 2 * MARGIN) * DENSITY;
  canvas.height = (height + 2 * MARGIN) * DENSITY;
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(drawing.closest(".card") || document.body).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, MARGIN * DENSITY, MARGIN * DENSITY, width * DENSITY, height * DENSITY);
  save(`${name}.png`, await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); }));
}

function withLooks(drawing, width, height) {
  const copy = drawing.cloneNode(true);
  const originals = drawing.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((node, at) => {
    const looks = getComputedStyle(originals[at]);
    for (const name of COPIED) node.setAttribute(name, looks.getPropertyValue(name));
    node.removeAttribute("class");
  });
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  return copy;
}
