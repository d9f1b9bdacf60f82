// Talking: listen, ask, read the answer aloud, and be interrupted.

import { isEcho, Listener, Speaker } from "./speech.js";

export class VoiceLoop {
  #turn = null;

  /** `send(words, endOfSpeech)` asks, `interrupt()` frees the provider; `state` shows what goes on. */
  constructor({ state, aloud, bargesIn, button, send, interrupt, busy, changed }) {
    Object.assign(this, { state, aloud, bargesIn, button, send, interrupt, busy, changed });
    this.speaker = new Speaker({
      began: () => {
        if (this.#turn && this.#turn.firstSound === null) this.#turn.firstSound = this.#turn.now();
        this.#show();
      },
      silent: () => this.#show(),
    });
    this.listener = new Listener({
      heard: (words) => this.#heard(words),
      said: (words, endOfSpeech) => this.#said(words, endOfSpeech),
      failed: (sentence) => this.#end(sentence),
    });
    button.addEventListener("click", () => (this.listener.listening ? this.#end("") : this.#begin()));
  }

  get speaking() {
    return this.speaker.speaking;
  }

  say(sentence, turn) {
    if (!this.aloud.checked) return;
    this.#turn = turn;
    this.speaker.say(sentence);
    this.#show();
  }

  /** Be silent at once. */
  stop() {
    this.speaker.stop();
    this.#show();
  }

  answered() {
    this.#show();
  }

  #begin() {
    this.button.setAttribute("aria-pressed", "true");
    if (!this.aloud.disabled) this.aloud.checked = true;
    this.listener.start();
    this.#show();
  }

  #end(sentence) {
    this.listener.stop();
    this.button.setAttribute("aria-pressed", "false");
    this.#show();
    if (sentence) this.state.textContent = sentence;
  }

  #isOwnVoice(words) {
    const said = this.speaker.lately;
    return said.length > 0 && isEcho(words, said, this.speaker.speaking);
  }

  #heard(words) {
    if (this.#isOwnVoice(words)) return;
    if ((this.speaker.speaking || this.busy()) && this.bargesIn()) {
      this.speaker.stop();
      this.interrupt();
    }
    this.state.textContent = `Heard: ${words}`;
  }

  #said(words, endOfSpeech) {
    if (this.#isOwnVoice(words)) return;
    if ((this.speaker.speaking || this.busy()) && !this.bargesIn()) return;
    this.send(words, endOfSpeech);
  }

  #show() {
    if (this.speaker.speaking) this.state.textContent = this.listener.listening && this.bargesIn() ? "Speaking. Say something, or press Escape, to interrupt." : "Speaking. Escape interrupts.";
    else if (this.listener.listening) this.state.textContent = this.busy() ? "Thinking ..." : "Listening ...";
    else this.state.textContent = "";
    this.changed();
  }
}
