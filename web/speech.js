// The browser's own speech: recognition and a voice, where it has them.

const Recognition = () => window.SpeechRecognition || window.webkitSpeechRecognition;

export const canListen = () => Boolean(Recognition());
export const canSpeak = () => "speechSynthesis" in window && "SpeechSynthesisUtterance" in window;

const ECHO_MS = 2500;
const ECHO_SHARE = 0.6;
const NO_RECOGNITION = "This browser recognises no speech. Chrome, Edge and Safari do; typing works everywhere.";
const FAILURES = {
  "not-allowed": "The browser may not use the microphone. Allow it for this page, and press Talk again.",
  "service-not-allowed": "This browser's speech recognition is turned off.",
  "audio-capture": "No microphone was found.",
  network: "The browser's speech recognition cannot reach its service.",
  "language-not-supported": "The browser does not recognise this language.",
};

/** What this browser can do, in a sentence. */
export function abilities() {
  if (!canListen()) return NO_RECOGNITION + (canSpeak() ? "" : " It has no voice either.");
  return "Your browser recognises the words; some browsers send the sound to their maker for that." + (canSpeak() ? "" : " It has no voice to read answers aloud.");
}

/** Speaks sentences one after the other. */
export class Speaker {
  #waiting = new Set(); // kept: browsers forget the listeners of an utterance that nobody holds
  #run = 0;
  #lately = [];

  /** `began(sentence)` is called as each begins to sound, `silent()` when nothing is left to say. */
  constructor({ began = () => {}, silent = () => {} }) {
    this.began = began;
    this.silent = silent;
  }

  get speaking() {
    return this.#waiting.size > 0;
  }

  /** The last sentences that began to sound, as recognisers hear them late. */
  get lately() {
    return this.#lately.filter(({ at }) => performance.now() - at < ECHO_MS).map(({ sentence }) => sentence);
  }

  say(sentence) {
    if (!canSpeak()) return;
    const run = this.#run;
    const utterance = new SpeechSynthesisUtterance(sentence);
    utterance.lang = navigator.language;
    this.#waiting.add(utterance);
    utterance.onstart = () => {
      if (run !== this.#run) return;
      this.#lately = [...this.#lately.slice(-1), { sentence, at: Infinity }];
      this.began(sentence);
    };
    utterance.onend = utterance.onerror = () => {
      if (run !== this.#run) return; // of an answer that was stopped
      this.#lately = this.#lately.map((each) => ({ ...each, at: Math.min(each.at, performance.now()) }));
      this.#waiting.delete(utterance);
      if (!this.#waiting.size) this.silent();
    };
    speechSynthesis.speak(utterance);
  }

  stop() {
    this.#run += 1;
    this.#waiting.clear();
    this.#lately = this.#lately.map((each) => ({ ...each, at: Math.min(each.at, performance.now()) }));
    if (canSpeak()) speechSynthesis.cancel();
  }
}

/** Listens until it is stopped. Recognisers end by themselves after a while: it begins again. */
export class Listener {
  #recognition = null;
  #endOfSpeech = null;
  #wanted = false;

  /** `heard(words)` for words that may still change, `said(words, endOfSpeech)` for those that do not, where
   * `endOfSpeech` is performance.now() as they ended; `failed(sentence)` when listening is over for a reason. */
  constructor({ heard, said, failed }) {
    Object.assign(this, { heard, said, failed });
  }

  get listening() {
    return this.#wanted;
  }

  start() {
    if (!canListen()) {
      this.failed(NO_RECOGNITION);
      return;
    }
    this.#wanted = true;
    this.#begin();
  }

  stop() {
    this.#wanted = false;
    this.#recognition?.abort();
    this.#recognition = null;
  }

  #begin() {
    const recognition = new (Recognition())();
    recognition.continuous = true;
    recognition.interimResults = true;
    recognition.lang = navigator.language || "en-US";
    recognition.onspeechend = () => { this.#endOfSpeech = performance.now(); };
    recognition.onspeechstart = () => { this.#endOfSpeech = null; };
    recognition.onresult = (event) => this.#take(event);
    recognition.onerror = ({ error }) => this.#refused(error);
    recognition.onend = () => {
      if (this.#wanted && this.#recognition === recognition) setTimeout(() => { if (this.#wanted) this.#begin(); }, 100);
    };
    this.#recognition = recognition;
    try {
      recognition.start();
    } catch (error) {
      this.#end(`Listening failed: ${error.message}`);
    }
  }

  #take(event) {
    for (let at = event.resultIndex; at < event.results.length; at += 1) {
      const result = event.results[at];
      const words = result[0].transcript.trim();
      if (!words) continue;
      if (!result.isFinal) this.heard(words);
      else this.said(words, this.#endOfSpeech ?? performance.now());
    }
  }

  #refused(error) {
    if (error === "no-speech" || error === "aborted") return; // it begins again, or was stopped
    this.#end(FAILURES[error] || `Listening failed (${error}).`);
  }

  #end(sentence) {
    this.stop();
    this.failed(sentence);
  }
}

/**
 * Whether what was heard is only the page's own voice, out of a loudspeaker: all its words are in what is being said.
 * Once that is over, most of it must have been heard: a person may repeat a word of a question in the answer.
 */
export function isEcho(heard, sentences, isSpeaking) {
  const words = (text) => text.toLowerCase().match(/[\p{L}\p{N}']+/gu) || [];
  const said = words(sentences.join(" "));
  const repeated = words(heard);
  if (!repeated.every((word) => said.includes(word))) return false;
  return isSpeaking || repeated.length > ECHO_SHARE * words(sentences.at(-1) || "").length;
}
