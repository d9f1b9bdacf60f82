// The documentation: buttons that copy, and a menu that is folded on a phone.

import { copy, element } from "./dom.js";

for (const block of document.querySelectorAll("main pre")) {
  const button = element("button", { type: "button", class: "quiet copy" }, "Copy");
  button.addEventListener("click", () => copy(block.textContent, button));
  const frame = element("div", { class: "copied" });
  block.replaceWith(frame);
  frame.append(block, button);
}

const menu = document.querySelector("#menu");
const narrow = matchMedia("(max-width: 60rem)");
const fold = () => { menu.open = !narrow.matches; };
fold();
narrow.addEventListener("change", fold);
menu.addEventListener("click", ({ target }) => {
  if (narrow.matches && target.closest("a")) menu.open = false;
});
