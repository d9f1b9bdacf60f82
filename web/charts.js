// Small charts of the live view, in SVG; colours are classes of live.css.

import { element, money, seconds, shape } from "./dom.js";

const WIDTH = 360;
const HEIGHT = 84;
const LEFT = 44;
const BOTTOM = 16;
const MINUTES = 60;
const DAYS = 14;
const DAY_MS = 86_400_000;

/** p50 and p95 of the first token over the last hour; `minutes` are [minutes ago, p50, p95]. */
export function latencyChart(minutes, name) {
  const most = Math.max(...minutes.map(([, , slow]) => slow), 0.001);
  const x = (ago) => LEFT + (1 - Math.min(ago, MINUTES - 1) / (MINUTES - 1)) * (WIDTH - LEFT - 6);
  const y = (value) => 8 + (1 - value / most) * (HEIGHT - BOTTOM - 8);
  const chart = shape("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `First token of ${name} over the last hour: the slowest minute has a p95 of ${seconds(most)}` });
  for (const value of [0, most]) {
    chart.append(shape("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) }), shape("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value ? seconds(value) : "0"));
  }
  chart.append(shape("text", { x: LEFT, y: HEIGHT - 1 }, "an hour ago"), shape("text", { x: WIDTH, y: HEIGHT - 1, "text-anchor": "end" }, "now"));
  for (const [kind, column] of [["slow", 2], ["median", 1]]) {
    const path = minutes.map((minute) => `${x(minute[0]).toFixed(1)},${y(minute[column]).toFixed(1)}`).join(" ");
    chart.append(shape("polyline", { class: kind, points: path }));
  }
  if (minutes.length === 1) chart.append(shape("circle", { class: "dot", cx: x(minutes[0][0]), cy: y(minutes[0][1]), r: 3 }));
  return element("div", {}, chart, element("p", { class: "hint" }, "p50 as a line, p95 dashed"));
}

/** What each of the last days has cost; `days` are {day, cost} of each key. */
export function dayChart(days, width) {
  const sums = new Map();
  for (const { day, cost } of days) sums.set(day, (sums.get(day) || 0) + cost);
  const shown = Array.from({ length: DAYS }, (_, at) => new Date(Date.now() - (DAYS - 1 - at) * DAY_MS).toISOString().slice(0, 10));
  const most = Math.max(...shown.map((day) => sums.get(day) || 0));
  if (!most) return element("p", { class: "soft" }, "Nothing that has a price was asked in the last 14 days.");
  const size = Math.max(280, width);
  const step = size / DAYS;
  const height = 150;
  const chart = shape("svg", { class: "chart", viewBox: `0 0 ${size} ${height + 18}`, role: "img", "aria-label": `Cost by day: at most ${money(most)}, today ${money(sums.get(shown.at(-1)) || 0)}` });
  shown.forEach((day, at) => {
    const cost = sums.get(day) || 0;
    const tall = Math.max(cost ? 2 : 0, (cost / most) * (height - 20));
    const bar = shape("rect", { class: "day", x: at * step + 3, y: height - tall, width: step - 6, height: tall, rx: 3 });
    bar.append(shape("title", {}, `${day}: ${money(cost)}`));
    chart.append(bar);
  });
  chart.append(
    shape("line", { class: "grid", x1: 0, x2: size, y1: height, y2: height }),
    shape("text", { x: 0, y: height + 14 }, shown[0]), shape("text", { x: size, y: height + 14, "text-anchor": "end" }, "today"),
    shape("text", { x: size, y: 10, "text-anchor": "end" }, `at most ${money(most)}`));
  return chart;
}
