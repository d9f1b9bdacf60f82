// Requests to this server: the key, lists, records, and chat streams with the time of each frame.

import { Sentences } from "./sentences.js";

const KEY = "thinkline.key";
const RECORD_WAITS = [0, 250, 750, 1500]; // milliseconds; a record is written shortly after its answer

/** A refusal or failure in OpenAI's shape. */
export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message || `The server answered with the status ${status}.`);
    this.status = status;
    this.code = error?.code || "";
  }
}

export const storedKey = () => sessionStorage.getItem(KEY) || "";
export const storeKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

/** What every request has besides its body. Header values are Latin-1: another key cannot be sent, and is wrong. */
export function headers() {
  const key = storedKey();
  if (!key) return {};
  if (/[^\x20-\xff]/.test(key)) throw new ApiError(401, { message: "The key has characters that no header can carry.", code: "invalid_api_key" });
  return { Authorization: `Bearer ${key}` };
}

/** GET a JSON document. Throws ApiError. */
export async function get(path, signal) {
  const response = await fetch(path, { headers: headers(), signal, cache: "no-store" });
  if (!response.ok) throw await failure(response);
  return response.json();
}

/** The server's record of a request, or null where it has none. */
export async function recordOf(id) {
  for (const wait of RECORD_WAITS) {
    if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
    try {
      return await get(`/v1/requests/${encodeURIComponent(id)}`);
    } catch (error) {
      if (error.status !== 404) return null;
    }
  }
  return null;
}

export async function failure(response) {
  let body;
  try {
    body = await response.json();
  } catch {
    body = null; // a proxy's page, or nothing
  }
  return new ApiError(response.status, body?.error);
}

/** The lines of a stream's events: `{event, data}` or `{comment}`, as they come. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "";
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    const lines = (rest + value).split(/\r\n|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("event:")) event = line.slice(6).trim();
      else if (line.startsWith("data:")) yield { event, data: line.slice(5).trim() };
      else if (line.startsWith(":")) yield { comment: line.slice(1).trim() };
    }
  }
}

/**
 * One turn: asks, and keeps the time of everything that comes, in seconds since it was sent.
 *
 * outcome: "running", then "done", "stopped" (by the person), "failed" (an error) or "cut" (no end came)
 */
export class Turn {
  constructor(body) {
    Object.assign(this, {
      model: body.model || "", request: body, startedAt: Date.now(), requestId: "", upstream: "", outcome: "running", error: "", status: null,
      headers: null, firstToken: null, firstSentence: null, lastToken: null, ended: null, endOfSpeech: null, firstSound: null,
      text: "", toolCalls: [], usage: null, finishReason: null, ticks: [], heartbeats: [], frames: [], record: null,
    });
    this.sentences = new Sentences();
    this.origin = performance.now();
  }

  now() {
    return (performance.now() - this.origin) / 1000;
  }

  /** Ask. `changed()` is called as things come, `said(sentence)` for each whole sentence. Never throws. */
  async run({ signal, changed = () => {}, said = () => {} }) {
    this.changed = changed;
    this.said = said;
    try {
      await this.#ask(signal);
    } catch (error) {
      this.#fail(error, signal);
    }
    this.ended = this.now();
    if (this.outcome !== "stopped") this.#say(this.sentences.finish());
    changed();
  }

  async #ask(signal) {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify({ ...this.request, stream: true, stream_options: { include_usage: true } }),
      signal,
    });
    this.headers = this.now();
    this.status = response.status;
    this.requestId = response.headers.get("x-request-id") || "";
    this.upstream = response.headers.get("x-upstream") || "";
    if (!response.ok) throw await failure(response);
    this.changed();
    for await (const event of events(response.body)) this.#take(event);
    if (this.outcome === "running") {
      this.outcome = "cut";
      this.error = "The stream ended before the answer was complete.";
    }
  }

  #take({ data, comment }) {
    const at = this.now();
    this.frames.push({ at, text: data === undefined ? `: ${comment}` : `data: ${data}` });
    if (data === undefined) this.heartbeats.push(at);
    else if (data === "[DONE]") this.outcome = this.error ? "failed" : "done";
    else this.#read(data, at);
    this.changed();
  }

  #read(data, at) {
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      return; // it is among the raw frames
    }
    if (chunk?.error) {
      this.error = chunk.error.message || "The answer failed.";
      this.outcome = "failed";
    }
    if (chunk?.usage) this.usage = chunk.usage;
    const choice = chunk?.choices?.[0];
    if (!choice) return;
    const { content, tool_calls: calls } = choice.delta || {};
    if (content || calls?.length) {
      this.firstToken ??= at;
      this.lastToken = at;
      this.ticks.push(at);
    }
    if (typeof content === "string" && content) {
      this.text += content;
      this.#say(this.sentences.push(content));
    }
    for (const call of calls || []) this.#addToCall(call);
    if (choice.finish_reason) this.finishReason = choice.finish_reason;
  }

  #addToCall({ index = 0, id, function: part = {} }) {
    const call = (this.toolCalls[index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    if (id) call.id = id;
    call.function.name += part.name || "";
    call.function.arguments += part.arguments || "";
  }

  #say(sentences) {
    for (const sentence of sentences) {
      this.firstSentence ??= this.now();
      this.said(sentence);
    }
  }

  #fail(error, signal) {
    if (signal?.aborted) {
      this.outcome = "stopped";
      return;
    }
    this.outcome = this.headers !== null && !(error instanceof ApiError) ? "cut" : "failed";
    this.failure = error;
    this.error = error instanceof ApiError ? error.message
      : this.outcome === "cut" ? "The connection broke before the answer was complete." : "The server cannot be reached.";
  }

  /** Tokens a second between the first and the last, null where that cannot be told. */
  get speed() {
    const tokens = this.usage?.completion_tokens;
    const time = this.lastToken - this.firstToken;
    return tokens > 1 && time > 0 ? (tokens - 1) / time : null;
  }

  /** The turn as a file has it. */
  toJSON() {
    const { sentences, origin, changed, said, failure: _, ...facts } = this;
    return facts;
  }
}
