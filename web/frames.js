// The raw frames of a turn, with their times. As they come, only the new ones are added.

import { element } from "./dom.js";

const MOST = 1000;

export class FrameList {
  #shown = null;
  #count = 0;

  constructor(root) {
    this.root = root;
  }

  show(turn) {
    if (turn !== this.#shown) {
      this.#shown = turn;
      this.#count = 0;
      this.root.replaceChildren();
    }
    const fresh = turn.frames.slice(this.#count);
    this.#count = turn.frames.length;
    this.root.append(...fresh.slice(-MOST).map(({ at, text }) =>
      element("li", {}, element("time", {}, `${at.toFixed(3)} s`), element("span", {}, text))));
    while (this.root.childElementCount > MOST) this.root.firstElementChild.remove();
    if (!turn.frames.length && turn.ended !== null) this.root.replaceChildren(element("li", {}, element("time", {}, "-"), element("span", {}, "No frame came.")));
  }
}
