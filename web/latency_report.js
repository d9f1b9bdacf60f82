// A Deepgram LatencyReport: where the silence of a spoken turn went, in one bar.
// https://developers.deepgram.com/docs/voice-agent-latency-report (seconds; what was not measured is missing)

import { seconds } from "./dom.js";

/** The line (line.js) of a report's text. Throws an Error whose message is for the person. */
export function lineOfReport(text, turn) {
  let report;
  try {
    report = JSON.parse(text);
  } catch {
    throw new Error("This is no JSON.");
  }
  if (Array.isArray(report)) report = report.at(-1);
  const value = (...names) => names.map((name) => report?.[name]).find((each) => typeof each === "number" && each >= 0 && each < 3600) ?? null;
  const hearing = value("stt_latency");
  const thinking = value("ttt_text_latency", "ttt_token_latency");
  const voice = value("tts_latency");
  const total = value("total_latency");
  if (hearing === null && thinking === null && voice === null && total === null) {
    throw new Error("It has none of stt_latency, ttt_text_latency, ttt_token_latency, tts_latency and total_latency.");
  }
  const parts = [["wait", "Speech", hearing], ["sentence", "Thinking", thinking], ["rest", "Voice", voice]];
  const spans = [];
  const marks = [];
  let from = 0;
  for (const [kind, name, time] of parts) {
    if (time === null) continue;
    spans.push({ kind, from, to: from + time, text: `${name}: ${seconds(time)}` });
    from += time;
    marks.push({ at: from, kind: "point", name, text: `${seconds(time)} of it` });
  }
  const rest = total === null ? 0 : total - from;
  if (rest > 0.001) spans.push({ kind: "think", from, to: total, text: `In no part of the report: ${seconds(rest)}` });
  if (total !== null) marks.push({ at: total, kind: "sentence", name: "First sound", text: "all of it; the parts may overlap, or leave gaps" });
  const attempts = [];
  if (turn?.firstToken && thinking !== null) {
    const start = hearing ?? 0;
    attempts.push({ name: "Thinking, as this page saw it", kind: "answered", from: start, to: start + (turn.firstSentence ?? turn.firstToken), firstToken: start + turn.firstToken,
      text: `First token after ${seconds(turn.firstToken)}, first sentence after ${seconds(turn.firstSentence)}` });
  }
  return { from: 0, to: Math.max(0.05, from, total ?? 0, ...attempts.map((each) => each.to)), spans, ticks: [], marks, attempts };
}
