// The live view: reads /live/events with the key in a header, and draws what it tells.

import { ApiError, events, failure, headers } from "./api.js";
import { dayChart, latencyChart } from "./charts.js";
import { element, find, money, seconds, table } from "./dom.js";
import { lineOfRecord } from "./line.js";
import { keepKey, noticeOf } from "./models.js";
import { drawTimeline, tableOfLine } from "./timeline.js";

const KEPT = 200;
const AGAIN_MS = 3000;
const OUTCOMES = { done: "done", hung_up: "hung up", failed: "failed", refused: "refused" };

const rows = new WeakMap(); // by turn
let turns = [];
let abort = null;

async function watch() {
  abort?.abort();
  const mine = (abort = new AbortController());
  while (!mine.signal.aborted) {
    turns = []; // all of them come again
    try {
      const response = await fetch("/live/events", { headers: headers(), signal: mine.signal, cache: "no-store" });
      if (!response.ok) throw await failure(response);
      find("#notices").replaceChildren();
      find("#state").textContent = "Connected. What is shown is of all workers.";
      for await (const { event, data } of events(response.body)) take(event, data);
      find("#state").textContent = "Connecting again ...";
    } catch (error) {
      if (mine.signal.aborted) return;
      find("#state").textContent = "Not connected.";
      if (error instanceof ApiError && [401, 403].includes(error.status)) {
        find("#notices").replaceChildren(noticeOf(error));
        find("#key").focus();
        return;
      }
      find("#notices").replaceChildren(noticeOf(error instanceof ApiError ? error : new Error("The connection broke. It is tried again.")));
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

function take(event, data) {
  if (event === "overview") showOverview(JSON.parse(data));
  if (event === "turns") {
    turns = [...JSON.parse(data), ...turns].sort((one, other) => other.created - one.created).slice(0, KEPT);
    showTurns();
  }
}

function showOverview(overview) {
  const targets = Object.entries(overview.targets);
  const all = (name) => targets.reduce((sum, [, target]) => sum + (target[name] || 0), 0);
  const outcome = (name) => targets.reduce((sum, [, target]) => sum + (target.outcomes[name] || 0), 0);
  const today = new Date().toISOString().slice(0, 10);
  const cost = overview.days.filter(({ day }) => day === today).reduce((sum, each) => sum + each.cost, 0);
  const figures = [
    ["In flight", overview.in_flight], ["Requests in the hour", all("requests")], ["Failed", outcome("failed")],
    ["Fallbacks", all("fallbacks")], ["Hedges", all("hedges")], ["Hung up", outcome("hung_up")],
    ["Tokens saved", all("tokens_saved")], ["Cost today", money(cost)],
  ];
  find("#figures").replaceChildren(...figures.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));
  find("#notices").replaceChildren(...(overview.problem ? [element("p", { class: "notice" }, overview.problem)] : []));
  showTargets(overview, targets);
  showKeys(overview.keys);
  find("#costs").replaceChildren(dayChart(overview.days, find("#costs").clientWidth));
}

function showTargets({ breakers, providers, default: usual }, targets) {
  const silent = Object.keys(breakers).filter((name) => !targets.some(([target]) => target === name)).map((name) => [name, null]);
  const cards = [...targets, ...silent].map(([name, target]) => targetCard(name, target, breakers[name] || "closed"));
  find("#targets").replaceChildren(...(cards.length ? cards : [element("p", { class: "soft" }, "Nobody has asked anything in the last hour.")]));
  find("#providers").replaceChildren(table(`The default is ${usual}.`, ["Provider", "State", "Model"],
    providers.map(({ name, available, reason, default_model: model }) => [name, available ? "can be asked" : reason || "is not set up", model || "-"])));
}

function targetCard(name, target, breaker) {
  const kind = { closed: "", open: "bad", "half-open": "warn" }[breaker] ?? "";
  const head = element("div", { class: "row spread" }, element("h3", {}, name), element("span", { class: `badge ${kind}` }, `breaker ${breaker}`));
  const card = element("article", { class: "card target", "data-target": name }, head);
  if (!target) return card;
  const counts = Object.entries(target.outcomes).map(([outcome, count]) => `${count} ${OUTCOMES[outcome] || outcome}`);
  const more = [["hedges", "hedged"], ["fallbacks", "after a fallback"]].filter(([key]) => target[key]).map(([key, words]) => `${target[key]} ${words}`);
  const [median, slow] = target.first_token;
  card.append(element("p", { class: "facts" }, [...counts, ...more].join(", ")));
  if (median !== undefined) {
    card.append(element("p", { class: "facts" }, `First token: p50 ${seconds(median)}, p95 ${seconds(slow)}`), latencyChart(target.minutes, name));
  }
  return card;
}

function showKeys(keys) {
  const of = (used, most) => (most === null || most === undefined ? `${used}` : `${used} of ${most}`);
  const rows = keys.map(({ name, admin, limits, used, budget, spent }) => [
    admin ? `${name} (admin)` : name, of(used.requests, limits.requests), of(used.tokens, limits.tokens), limits.concurrent ?? "-",
    budget.day === undefined ? money(spent.day) : `${money(spent.day)} of ${money(budget.day)}`,
    budget.month === undefined ? money(spent.month) : `${money(spent.month)} of ${money(budget.month)}`,
  ].map(String));
  find("#keys").replaceChildren(keys.length
    ? table("Requests and tokens of the last minute", ["Key", "Requests", "Tokens", "At a time", "Today", "This month"], rows)
    : element("p", { class: "soft" }, "No key is set: only this machine is served."));
}

function showTurns() {
  const words = find("#search").value.trim().toLowerCase();
  const found = turns.filter((turn) => [turn.call, turn.id, turn.model, turn.key, turn.target].some((each) => each?.toLowerCase().includes(words)) || !words);
  const body = find("#turns");
  const shown = found.map((turn) => rows.get(turn) ?? rows.set(turn, turnRow(turn)).get(turn));
  shown.forEach((row, at) => { // rows that are in their places stay there, and keep the focus
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] || null);
  });
  while (body.childElementCount > shown.length) body.lastElementChild.remove();
  find("#turns-hint").textContent = words ? `${found.length} of ${turns.length} turns` : turns.length ? "" : "No turn yet.";
}

function turnRow(turn) {
  const show = element("button", { type: "button", class: "quiet", on: { click: () => showDetail(turn) } }, "Time line");
  return element("tr", { "data-id": turn.id },
    element("th", { scope: "row" }, new Date(turn.created * 1000).toLocaleTimeString()),
    element("td", { class: "id", title: turn.id }, turn.call || turn.id), element("td", {}, turn.key || "-"),
    element("td", {}, turn.target || turn.model || "-"), element("td", {}, seconds(turn.first_token)), element("td", {}, seconds(turn.duration)),
    element("td", { class: `outcome ${turn.outcome}` }, OUTCOMES[turn.outcome] || turn.outcome), element("td", {}, show));
}

function showDetail(turn) {
  const line = lineOfRecord(turn);
  find("#detail").hidden = false;
  find("#detail-title").textContent = `The time line of ${turn.call || turn.id}`;
  find("#detail-chart").replaceChildren(drawTimeline(line, find("#detail-chart").clientWidth, "The time line; the table below has all of it."));
  find("#detail-table").replaceChildren(tableOfLine(line));
  find("#detail").scrollIntoView({ block: "nearest" });
}

find("#search").addEventListener("input", showTurns);
keepKey(find("#key"), watch);
watch();
