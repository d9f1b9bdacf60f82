// The part of the page about one turn: figures, time line, table, report, frames, files.

import { element, find, money, seconds, soon } from "./dom.js";
import { savePng, saveJson } from "./export.js";
import { FrameList } from "./frames.js";
import { lineOfReport } from "./latency_report.js";
import { lineOfTurn } from "./line.js";
import { linkTo } from "./links.js";
import { drawTimeline, tableOfLine } from "./timeline.js";

const REDRAW_MS = 120;

export class TurnView {
  #turn = null;
  #frames = new FrameList(find("#frames"));

  constructor() {
    find("#save-json").addEventListener("click", () => saveJson(this.#name, this.#turn));
    find("#save-png").addEventListener("click", () => savePng(this.#name, find("#timeline svg")));
    find("#report").addEventListener("input", () => this.#showReport());
    new ResizeObserver(() => this.refresh()).observe(find("#timeline"));
  }

  get #name() {
    return `turn-${this.#turn.requestId || this.#turn.startedAt}`.replace(/[^\w-]/g, "_");
  }

  show(turn, { onlyIfShown = false, scroll = false } = {}) {
    if (onlyIfShown && turn !== this.#turn) return;
    this.#turn = turn;
    find("#turn").hidden = find("#raw").hidden = false;
    if (scroll) find("#turn").scrollIntoView({ block: "nearest" });
    if (turn.ended === null) this.refresh();
    else this.#draw();
  }

  hide() {
    this.#turn = null;
    find("#turn").hidden = find("#raw").hidden = true;
  }

  /** Draw again soon. */
  refresh = soon(() => {
    if (this.#turn) this.#draw();
  }, REDRAW_MS);

  #draw() {
    const turn = this.#turn;
    const line = lineOfTurn(turn);
    const about = `Time line: first token after ${seconds(turn.firstToken)}, first sentence after ${seconds(turn.firstSentence)}, end after ${seconds(turn.ended)}. The table below has all of it.`;
    find("#timeline").replaceChildren(drawTimeline(line, find("#timeline").clientWidth, about));
    find("#timeline-table").replaceChildren(tableOfLine(line));
    find("#figures").replaceChildren(...figures(turn).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
    find("#save-json").disabled = find("#save-png").disabled = turn.ended === null;
    find("#compare-turn").href = linkTo("/compare", turn.request);
    this.#frames.show(turn);
    if (find("#report").value.trim()) this.#showReport();
  }

  #showReport() {
    const text = find("#report").value.trim();
    const chart = find("#report-chart");
    const hint = find("#report-hint");
    chart.replaceChildren();
    hint.textContent = "Shows speech, thinking and voice in one bar. It stays on this page.";
    if (!text) return;
    try {
      const line = lineOfReport(text, this.#turn);
      chart.replaceChildren(drawTimeline(line, find("#timeline").clientWidth, "Speech, thinking and voice in one bar; the table has the same."), tableOfLine(line));
    } catch (error) {
      hint.textContent = error.message;
    }
  }
}

function figures(turn) {
  const { record } = turn;
  const rows = [
    ["First token", seconds(turn.firstToken)],
    ["First sentence", seconds(turn.firstSentence)],
    ["Whole answer", seconds(turn.ended)],
    ["Tokens a second", turn.speed === null ? "-" : turn.speed.toFixed(0)],
  ];
  if (turn.endOfSpeech !== null) rows.unshift(["Silence", turn.firstSound === null ? "-" : seconds(turn.firstSound - turn.endOfSpeech)]);
  if (turn.usage) rows.push(["Tokens", `${turn.usage.prompt_tokens ?? "-"} in, ${turn.usage.completion_tokens ?? "-"} out`]);
  if (typeof record?.cost === "number") rows.push(["Cost", money(record.cost)]);
  if (record?.tokens_saved) rows.push(["Tokens saved", String(record.tokens_saved)]);
  rows.push(["Answered by", record?.target || turn.upstream || "-"]);
  return rows;
}
