// The conversation: its messages, the turn that runs, the tool calls that wait for results.

import { recordOf, Turn } from "./api.js";
import { element, find, seconds, soon } from "./dom.js";
import { callCard } from "./tools.js";

const REDRAW_MS = 40;
const NO_RESULT = "The person went on without a result.";

export class Conversation {
  #messages = [];
  #abort = null;
  #running = null; // a promise, while an answer is under way
  #waiting = null; // calls whose results are not all there
  #list = find("#conversation");

  /** `settings()` gives model, system, temperature and tools; the others are told of what happens. */
  constructor(parts) {
    Object.assign(this, parts);
  }

  get busy() {
    return this.#running !== null;
  }

  get isEmpty() {
    return !this.#list.childElementCount;
  }

  async clear() {
    await this.#stopped();
    this.#messages = [];
    this.#waiting = null;
    this.#list.replaceChildren();
  }

  /** Free the provider. What has come of the answer stays in the conversation. */
  stop() {
    this.#abort?.abort();
  }

  /** Stop, and wait until what has come is filed. */
  async #stopped() {
    while (this.#running) {
      this.stop();
      await this.#running;
    }
  }

  /** Say something, as the person. */
  async ask(words, { image = "", endOfSpeech = null } = {}) {
    await this.#stopped();
    this.#waiting?.finish();
    const content = image ? [{ type: "text", text: words || "What is in this image?" }, { type: "image_url", image_url: { url: image } }] : words;
    this.#messages.push({ role: "user", content });
    const shown = element("li", { class: "message user" }, element("p", { class: "words" }, words));
    if (image) shown.append(element("img", { src: image, alt: "The image that was sent" }));
    this.#add(shown);
    await this.#turn(endOfSpeech);
  }

  async #turn(endOfSpeech) {
    let settings;
    try {
      settings = this.settings();
    } catch (error) {
      this.failed(error);
      return;
    }
    const { model, system, temperature, tools } = settings;
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...this.#messages];
    const turn = new Turn({ ...(model ? { model } : {}), messages, ...(temperature === undefined ? {} : { temperature }), ...(tools.length ? { tools } : {}) });
    if (endOfSpeech !== null) turn.endOfSpeech = Math.min(0, (endOfSpeech - turn.origin) / 1000);
    const { signal } = (this.#abort = new AbortController());
    const shown = this.#answer(turn);
    this.shown(turn);
    this.#running = turn.run({
      signal,
      changed: soon(() => { shown.update(); this.shown(turn, { onlyIfShown: true }); }, REDRAW_MS),
      said: (sentence) => { if (!signal.aborted) this.said(sentence, turn); },
    }).then(() => {
      this.#running = null;
      shown.update();
      this.#keep(turn, tools);
    });
    this.changed();
    await this.#running;
    this.shown(turn, { onlyIfShown: true });
    this.changed();
    this.ended(turn);
    if (turn.requestId) {
      turn.record = await recordOf(turn.requestId);
      shown.update();
      this.shown(turn, { onlyIfShown: true });
    }
  }

  /** File the answer under the conversation, and ask for the results of its calls. */
  #keep(turn, tools) {
    const calls = turn.outcome === "done" ? turn.toolCalls.filter(Boolean) : [];
    if (turn.failure?.status === 401) this.failed(turn.failure);
    if (calls.length) {
      this.#messages.push({ role: "assistant", content: turn.text || null, tool_calls: calls });
      this.#askForResults(calls, tools);
    } else if (turn.text) {
      this.#messages.push({ role: "assistant", content: turn.text });
    }
  }

  #askForResults(calls, tools) {
    const results = new Map();
    const finish = () => {
      this.#waiting = null;
      for (const { send } of cards) send.disabled = true;
      for (const { id } of calls) this.#messages.push({ role: "tool", tool_call_id: id, content: results.get(id) ?? NO_RESULT });
    };
    const cards = calls.map((call) => {
      const declaration = tools.find((each) => each.function.name === call.function.name);
      const stub = this.tools.stub(call.function.name);
      const made = callCard(call, declaration, stub, (text) => {
        results.set(call.id, text);
        if (results.size < calls.length) return;
        finish();
        this.#turn(null);
      });
      this.#list.lastElementChild.append(made.card);
      return { ...made, stub };
    });
    this.#waiting = { finish };
    this.#scroll();
    for (const { send, stub } of cards) if (stub) send.click();
  }

  #answer(turn) {
    const words = element("p", { class: "words" });
    const failure = element("p", { class: "failure", role: "alert", hidden: true });
    const facts = element("span");
    const show = element("button", { type: "button", class: "quiet", on: { click: () => this.shown(turn, { scroll: true }) } }, "Time line");
    const node = element("li", { class: "message assistant" },
      element("p", { class: "who" }, turn.model || "The default model"), words, failure, element("div", { class: "meta" }, facts, show));
    this.#add(node);
    const update = () => {
      const follows = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 60;
      words.textContent = turn.text;
      node.querySelector(".who").textContent = turn.upstream || turn.model || "The default model";
      facts.textContent = factsOf(turn);
      if (turn.error && failure.hidden) {
        failure.hidden = false;
        failure.textContent = turn.error;
      }
      if (follows) this.#scroll();
    };
    update();
    return { update };
  }

  #add(node) {
    this.#list.append(node);
    this.#scroll();
    this.changed();
  }

  #scroll() {
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function factsOf(turn) {
  if (turn.outcome === "running") return turn.firstToken === null ? "Waiting for the first word ..." : "Answering ...";
  const facts = [];
  if (turn.firstToken !== null) facts.push(`First token ${seconds(turn.firstToken)}`);
  facts.push(`${{ done: "done", stopped: "stopped", failed: "failed", cut: "cut off" }[turn.outcome]} after ${seconds(turn.ended)}`);
  return facts.join(", ");
}
