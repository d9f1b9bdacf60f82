// Cuts a stream of words into sentences, which is what a voice can begin to say.

const END = /[.!?…]+["'”’)\]]*\s+|[。！？]+["'”’）」』]*|\n+/u;

export class Sentences {
  #rest = "";

  /** Add words; returns the sentences that are whole now. */
  push(text) {
    this.#rest += text;
    const whole = [];
    for (let end = END.exec(this.#rest); end; end = END.exec(this.#rest)) {
      const cut = end.index + end[0].length;
      const sentence = this.#rest.slice(0, cut).trim();
      if (sentence) whole.push(sentence);
      this.#rest = this.#rest.slice(cut);
    }
    return whole;
  }

  /** What is left at the end of the answer, a list of one sentence or none. */
  finish() {
    const rest = this.#rest.trim();
    this.#rest = "";
    return rest ? [rest] : [];
  }
}
