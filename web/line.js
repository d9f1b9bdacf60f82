// What a time line shows, from a turn of this page, from the server's record of a request, or from both.
//
// A line is {from, to, spans: [{kind, from, to, text}], ticks: [seconds], marks: [{at, kind, name, text}],
// attempts: [{name, kind, from, to, firstToken, text}]}; times are in seconds since the turn was sent, so what was
// before it (the end of speech) is negative.

import { seconds } from "./dom.js";

const POINTS = [
  ["endOfSpeech", "End of speech", "the recogniser heard the end of the words"],
  ["headers", "Headers", "the answer's head came"],
  ["firstToken", "First token", "the first word or tool call came"],
  ["firstSentence", "First sentence", "the first whole sentence had come: a voice can begin"],
  ["firstSound", "First sound", "the voice began to speak"],
  ["lastToken", "Last token", "the last word came"],
];
const WHY = { first: "asked first", retry: "asked again", hedge: "asked as well, because the first was silent", fallback: "asked, because the one before failed" };

/** The line of a turn, with its record where there is one. */
export function lineOfTurn(turn) {
  const end = turn.ended ?? turn.lastToken ?? turn.headers ?? turn.now?.() ?? 0;
  const line = { spans: spansOf({ ...turn, end }), ticks: turn.ticks, marks: [], attempts: [] };
  line.marks.push({ at: 0, kind: "point", name: "Sent", text: "the turn was sent" });
  for (const [key, name, text] of POINTS) {
    if (turn[key] !== null) line.marks.push({ at: turn[key], kind: key === "firstSentence" ? "sentence" : "point", name, text });
  }
  for (const at of turn.heartbeats) line.marks.push({ at, kind: "heartbeat", name: "Heartbeat", text: "the server broke a silence" });
  if (turn.outcome === "stopped") line.marks.push({ at: end, kind: "hang_up", name: "Stopped", text: "the answer was stopped, and its provider freed" });
  if (turn.outcome === "failed" || turn.outcome === "cut") line.marks.push({ at: end, kind: "failure", name: "Failed", text: turn.error });
  if (turn.record) addRecord(line, turn.record, delayTo(turn));
  return bounded(line);
}

/** The line of a server's record alone; its times count from the request's arrival. */
export function lineOfRecord(record) {
  const { first_token: firstToken, duration: end } = record;
  const line = {
    spans: spansOf({ headers: record.headers, firstToken, firstSentence: null, lastToken: firstToken === null ? null : end, end }),
    ticks: [], attempts: [],
    marks: [{ at: 0, kind: "point", name: "Asked", text: "the request came" }],
  };
  if (firstToken !== null) line.marks.push({ at: firstToken, kind: "point", name: "First token", text: "the first word or tool call came" });
  if (record.error) line.marks.push({ at: end, kind: "failure", name: "Failed", text: record.error.message });
  addRecord(line, record, 0);
  return bounded(line);
}

/** The way to the server, in seconds: half of what the head or the first token took longer here than there. */
function delayTo({ headers, firstToken, record }) {
  const differences = [[firstToken, record.first_token], [headers, record.headers]]
    .filter(([here, there]) => here !== null && typeof there === "number")
    .map(([here, there]) => here - there);
  return differences.length ? Math.max(0, Math.min(...differences)) / 2 : 0;
}

function spansOf({ headers, firstToken, firstSentence, lastToken, end }) {
  const steps = [
    ["wait", "waiting for the head", headers],
    ["think", "waiting for the first token", firstToken],
    ["sentence", "the first sentence", firstSentence],
    ["rest", "the rest of the answer", lastToken],
  ];
  const spans = [];
  let from = 0;
  for (const [kind, text, at] of steps) {
    if (at === null || at <= from) continue;
    spans.push({ kind, from, to: at, text: `${text}: ${seconds(at - from)}` });
    from = at;
  }
  if (from === 0 && end > 0) spans.push({ kind: "wait", from: 0, to: end, text: `waiting: ${seconds(end)}` });
  return spans;
}

function addRecord(line, record, delay) {
  for (const mark of record.marks || []) {
    const name = mark.kind.replace("_", "-").replace(/^./, (letter) => letter.toUpperCase());
    const isKnown = mark.kind === "heartbeat" && line.marks.some((each) => each.kind === "heartbeat");
    if (!isKnown) line.marks.push({ at: mark.at + delay, kind: mark.kind, name, text: mark.text || "" });
  }
  for (const attempt of record.attempts || []) {
    const ended = attempt.ended ?? record.duration;
    const why = WHY[attempt.why] || attempt.why || "asked";
    const how = attempt.error ? `${attempt.outcome}: ${attempt.error}` : attempt.outcome;
    line.attempts.push({
      name: attempt.target, kind: attempt.outcome, from: attempt.started + delay, to: ended + delay,
      firstToken: typeof attempt.first_token === "number" ? attempt.first_token + delay : null,
      text: `${attempt.target}: ${why}, ${how}, after ${seconds(ended - attempt.started)}`,
    });
  }
}

function bounded(line) {
  const times = [...line.spans.flatMap((span) => [span.from, span.to]), ...line.marks.map((mark) => mark.at), ...line.attempts.map((each) => each.to)];
  line.marks.sort((one, other) => one.at - other.at);
  return { ...line, from: Math.min(0, ...times), to: Math.max(0.05, ...times) };
}
