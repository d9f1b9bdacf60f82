// Compares models: the same turn at once, one after the other by ear, or a series of ten with its percentiles.

import { recordOf, Turn } from "./api.js";
import { element, find, money, seconds, soon, table } from "./dom.js";
import { saveJson } from "./export.js";
import { lineOfTurn } from "./line.js";
import { filledIn } from "./links.js";
import { fillModels, isToTalk, keepKey, ModelChoice, noticeOf } from "./models.js";
import { canSpeak, Speaker } from "./speech.js";
import { drawTimeline } from "./timeline.js";

const MODELS = 3;
const SERIES = 10;
const REDRAW_MS = 120;
const PHRASES = ["Good morning, who is there?", "What can you do for me?", "Say: One moment, please.", "Count to ten", "I would like to move my appointment to Friday."];

const choices = Array.from({ length: MODELS }, (_, at) => choice(at));
const results = find("#results");
let abort = null;
let measured = [];

function choice(at) {
  const select = element("select", { id: `model-${at}` });
  const field = element("input", { "aria-label": `Name of model ${at + 1}`, placeholder: "A model's name", hidden: true });
  find("#choices").append(element("div", {}, element("label", { for: select.id }, `Model ${at + 1}`), select, field));
  return new ModelChoice(select, field, () => {});
}

const chosen = () => choices.map((each) => each.value).filter(Boolean);

function bodyFor(model, words) {
  const system = find("#system").value.trim();
  return { model, messages: [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: words }] };
}

/** A card for a model's answer; `show` draws the turn again, over `most` seconds. */
function card(model) {
  const words = element("p", { class: "words" });
  const failure = element("p", { class: "failure", role: "alert", hidden: true });
  const figures = element("dl", { class: "figures" });
  const chart = element("div");
  const hear = element("button", { type: "button", class: "quiet", disabled: true }, "Hear it");
  const node = element("section", { class: "card result", "aria-label": `Answer of ${model}` }, element("h2", {}, model), words, failure, figures, chart, element("div", { class: "row" }, hear));
  hear.addEventListener("click", () => { quiet(); new Speaker({}).say(words.textContent); });
  let longest = 0;
  const show = (turn, most = 0) => {
    longest = Math.max(longest, most);
    words.textContent = turn.text || (turn.outcome === "running" ? "..." : "");
    failure.hidden = !turn.error;
    failure.textContent = turn.error;
    figures.replaceChildren(...facts(turn).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
    const line = lineOfTurn(turn);
    chart.replaceChildren(drawTimeline({ ...line, to: Math.max(line.to, longest) }, chart.clientWidth, `Time line of ${model}: first token after ${seconds(turn.firstToken)}, end after ${seconds(turn.ended)}`));
    hear.disabled = !turn.text || !canSpeak();
  };
  return { node, show };
}

function facts(turn) {
  return [
    ["First token", seconds(turn.firstToken)], ["First sentence", seconds(turn.firstSentence)],
    ["Tokens a second", turn.speed === null ? "-" : turn.speed.toFixed(0)], ["Cost", money(turn.record?.cost)],
  ];
}

/** Ask one model, and draw what comes; its record, which has the cost, comes later. */
async function ask(model, words, signal, { show = () => {}, said = () => {} } = {}) {
  const turn = new Turn(bodyFor(model, words));
  await turn.run({ signal, said: (sentence) => said(sentence, turn), changed: soon(() => show(turn), REDRAW_MS) });
  if (turn.failure?.status === 401) find("#notices").replaceChildren(noticeOf(turn.failure));
  if (turn.requestId) {
    recordOf(turn.requestId).then((record) => {
      turn.record = record;
      show(turn);
    });
  }
  return turn;
}

function quiet() {
  if (canSpeak()) speechSynthesis.cancel();
}

/** Run `work(signal)`, which Stop ends. */
async function running(work) {
  if (!chosen().length) return;
  stop();
  const mine = (abort = new AbortController());
  find("#stop").disabled = false;
  try {
    await work(mine.signal);
  } finally {
    if (abort === mine) {
      abort = null;
      find("#stop").disabled = true;
      find("#progress").textContent = "";
    }
  }
}

function stop() {
  abort?.abort();
  quiet();
}

function cards() {
  const made = chosen().map((model) => ({ model, ...card(model) }));
  results.replaceChildren(...made.map(({ node }) => node));
  return made;
}

/** Draw all over the same time, and mark the first to a whole sentence. */
function finish(made, turns) {
  const most = Math.max(...turns.map((turn) => lineOfTurn(turn).to));
  const first = Math.min(...turns.map((turn) => turn.firstSentence ?? Infinity));
  made.forEach(({ node, show }, at) => {
    show(turns[at], most);
    node.classList.toggle("best", made.length > 1 && turns[at].firstSentence === first);
  });
}

const words = () => find("#words").value.trim();

function together() {
  return running(async (signal) => {
    const made = cards();
    find("#progress").textContent = "Asking ...";
    finish(made, await Promise.all(made.map(({ model, show }) => ask(model, words(), signal, { show }))));
  });
}

function byEar() {
  return running(async (signal) => {
    const made = cards();
    const turns = [];
    for (const { model, show } of made) {
      if (signal.aborted) return;
      find("#progress").textContent = `Now ${model}`;
      let firstSound = null;
      let isSilent = () => {};
      const speaker = new Speaker({
        began: () => { firstSound ??= performance.now(); },
        silent: () => isSilent(),
      });
      const turn = await ask(model, words(), signal, { show, said: (sentence) => speaker.say(sentence) });
      if (speaker.speaking && !signal.aborted) {
        await new Promise((resolve) => {
          isSilent = resolve;
          signal.addEventListener("abort", resolve);
        });
      }
      if (firstSound !== null) turn.firstSound = (firstSound - turn.origin) / 1000;
      turns.push(turn);
      show(turn);
    }
    finish(made, turns);
  });
}

function series() {
  return running(async (signal) => {
    const models = chosen();
    const lines = find("#turns").value.split("\n").map((line) => line.trim()).filter(Boolean);
    measured = models.map((model) => ({ model, turns: [] }));
    find("#measured").hidden = false;
    for (let at = 0; at < SERIES; at += 1) {
      for (const each of measured) {
        if (signal.aborted) return;
        find("#progress").textContent = `Turn ${at + 1} of ${SERIES}: ${each.model}`;
        each.turns.push(await ask(each.model, lines[at % lines.length] || words(), signal, { show: showSeries }));
        showSeries();
      }
    }
  });
}

/** The least value that so many of a hundred do not exceed (nearest rank); null of none. */
function percentile(values, rank) {
  const sorted = values.filter((each) => each !== null && each !== undefined).sort((one, other) => one - other);
  return sorted.length ? sorted[Math.max(0, Math.ceil((rank / 100) * sorted.length) - 1)] : null;
}

function showSeries() {
  const rows = measured.map(({ model, turns }) => {
    const of = (name) => turns.map((turn) => turn[name]);
    const costs = turns.map((turn) => turn.record?.cost).filter((each) => typeof each === "number");
    const speed = percentile(of("speed"), 50);
    return [
      model, `${turns.filter(({ outcome }) => outcome === "done").length} of ${turns.length}`,
      ...["firstToken", "firstSentence", "ended"].flatMap((name) => [50, 95].map((rank) => seconds(percentile(of(name), rank)))),
      speed === null ? "-" : speed.toFixed(0), costs.length ? money(costs.reduce((sum, each) => sum + each, 0)) : "-",
    ];
  });
  find("#series-table").replaceChildren(table(
    "The models are asked in turn. p95 of ten turns is the slowest.",
    ["Model", "Answered", "First token p50", "p95", "First sentence p50", "p95", "Whole answer p50", "p95", "Tokens a second", "Cost"], rows));
}

find("#setup").addEventListener("submit", (event) => {
  event.preventDefault();
  together();
});
find("#by-ear").addEventListener("click", byEar);
find("#series").addEventListener("click", series);
find("#stop").addEventListener("click", stop);
find("#save-series").addEventListener("click", () => saveJson("series", measured));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });

async function load() {
  let isReady = false;
  try {
    for (const [at, each] of choices.entries()) {
      const before = each.value;
      const ids = await fillModels(each.select);
      if (at) each.select.prepend(element("option", { value: "" }, "None"));
      each.value = before || (at > 1 ? "" : ids.filter(isToTalk)[at] || "");
    }
    find("#notices").replaceChildren();
    isReady = true;
  } catch (error) {
    find("#notices").replaceChildren(noticeOf(error));
  }
  for (const id of ["#together", "#series"]) find(id).disabled = !isReady;
  find("#by-ear").disabled = !isReady || !canSpeak();
}

function fillIn() {
  try {
    const given = filledIn();
    if (!given) return;
    if (given.model) choices[0].value = given.model;
    if (given.words) find("#words").value = given.words;
    if (given.system) find("#system").value = given.system;
  } catch (error) {
    find("#notices").replaceChildren(noticeOf(error));
  }
}

find("#turns").value = PHRASES.join("\n");
keepKey(find("#key"), load);
fillIn();
load();
