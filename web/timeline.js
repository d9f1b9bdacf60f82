// Draws lines (line.js) in SVG, and says the same in a table. No inline style: colours are classes of timeline.css.

import { element, seconds, shape, table } from "./dom.js";

const PAD = 8; // on both sides, so that marks at the ends are whole
const BAR = 18;
const LETTER = 6.2; // the width of a letter of a mark's name, about
const LANES = 4;
const NAMED = new Set(["point", "sentence", "hedge", "deadline", "fallback", "filler", "hang_up", "failure", "retry"]);
const MOST_TICKS = 1500;

/** A figure with the drawing, the words of what the pointer is on, and what the colours mean. */
export function drawTimeline(line, width, label) {
  const caption = element("p", { class: "timeline-caption" }, "Point at a part to read what it is.");
  const drawing = draw(line, Math.max(280, Math.round(width)), label);
  drawing.addEventListener("pointerover", (event) => {
    const words = event.target.closest("[data-words]")?.getAttribute("data-words");
    if (words) caption.textContent = words;
  });
  return element("div", {}, drawing, caption);
}

function draw(line, width, label) {
  const scale = (at) => PAD + ((at - line.from) / (line.to - line.from)) * (width - 2 * PAD);
  const lanes = named(line, scale, width);
  const top = 6 + lanes.height;
  const drawing = shape("svg", { class: "timeline", role: "img", "aria-label": label });
  let y = top;
  const marks = shape("g");
  drawing.append(shape("rect", { class: "track", x: scale(line.from), y, width: scale(line.to) - scale(line.from), height: BAR, rx: 4 }));
  for (const span of line.spans) drawing.append(bar(`span ${span.kind}`, scale, span, y, BAR));
  for (const tick of line.ticks.slice(0, MOST_TICKS)) {
    drawing.append(shape("line", { class: "tick", x1: scale(tick), x2: scale(tick), y1: y + BAR + 3, y2: y + BAR + 9 }));
  }
  for (const mark of line.marks) marks.append(symbol(mark, scale(mark.at), y + BAR / 2));
  drawing.append(...lanes.nodes);
  y += BAR + 20;
  for (const attempt of line.attempts) {
    drawing.append(shape("text", { class: "name", x: PAD, y: y + 9 }, shortened(attempt.name, width)));
    drawing.append(bar(`span ${attempt.kind}`, scale, attempt, y + 15, 8));
    if (attempt.firstToken !== null) marks.append(symbol({ at: attempt.firstToken, kind: "point", name: "First token", text: `of ${attempt.name}` }, scale(attempt.firstToken), y + 19, 4));
    y += 34;
  }
  y = axis(drawing, line, scale, y, top);
  drawing.append(marks);
  drawing.setAttribute("viewBox", `0 0 ${width} ${y}`);
  drawing.setAttribute("width", width);
  drawing.setAttribute("height", y);
  return drawing;
}

function bar(kind, scale, { from, to, text }, y, height) {
  const node = shape("rect", { class: kind, x: scale(from), y, width: Math.max(1.5, scale(to) - scale(from)), height, rx: 3, "data-words": text });
  node.append(shape("title", {}, text));
  return node;
}

function symbol(mark, x, y, size = 5.5) {
  const words = `${seconds(mark.at)}: ${mark.name}${mark.text ? `, ${mark.text}` : ""}`;
  const path = mark.kind === "point" ? `M${x - size} ${y}a${size} ${size} 0 1 0 ${2 * size} 0a${size} ${size} 0 1 0 ${-2 * size} 0`
    : `M${x} ${y - size - 1.5}l${size + 1.5} ${size + 1.5}l${-size - 1.5} ${size + 1.5}l${-size - 1.5} ${-size - 1.5}z`;
  const node = shape("path", { class: `mark ${mark.kind}`, d: path, "data-words": words, "data-kind": mark.kind, "data-name": mark.name });
  node.append(shape("title", {}, words));
  return node;
}

/**
 * The names of marks above the bar, in lanes so that they do not cover each other; what finds no place has none. They
 * stand to the right of their stems, and earlier ones higher, so that no stem crosses a name.
 */
function named(line, scale, width) {
  const free = Array(LANES).fill(width); // up to where each lane is
  const placed = [];
  for (const mark of line.marks.filter((each) => NAMED.has(each.kind)).reverse()) {
    const text = mark.at === 0 ? mark.name : `${mark.name} ${seconds(mark.at)}`;
    const size = text.length * LETTER;
    const x = scale(mark.at);
    const lane = free.findIndex((end) => Math.min(x + size, width) <= end);
    if (lane < 0) continue;
    const start = Math.min(x, free[lane] - size, width - size);
    free[lane] = start - 8;
    placed.push({ x, start, lane, text });
  }
  const height = (Math.max(-1, ...placed.map((each) => each.lane)) + 1) * 16 + 4;
  const heightOf = (lane) => height - lane * 16;
  const stems = placed.map(({ x, lane }) => shape("line", { class: "stem", x1: x, x2: x, y1: heightOf(lane), y2: height + 6 }));
  const texts = placed.map(({ start, lane, text }) => shape("text", { x: start, y: heightOf(lane) - 3 }, text));
  return { height, nodes: [...stems, ...texts] };
}

function axis(drawing, line, scale, y, top) {
  const step = niceStep((line.to - line.from) / Math.max(3, Math.min(8, (scale(line.to) - scale(line.from)) / 90)));
  const grid = [];
  for (let at = Math.ceil(line.from / step) * step; at <= line.to + 1e-9; at += step) {
    const x = scale(at);
    grid.push(shape("line", { class: "grid", x1: x, x2: x, y1: top, y2: y }));
    const anchor = x < 24 ? "start" : x > scale(line.to) - 16 ? "end" : "middle";
    drawing.append(shape("text", { x, y: y + 13, "text-anchor": anchor }, Math.abs(at) < 1e-9 ? "0" : seconds(at)));
  }
  drawing.prepend(...grid);
  return y + 18;
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least);
}

function shortened(text, width) {
  const most = Math.floor(width / 7);
  return text.length > most ? `${text.slice(0, most - 3)}...` : text;
}

/** The same for readers: every part and mark in the order of time. */
export function tableOfLine(line) {
  const rows = [
    ...line.marks.map(({ at, name, text }) => [at, name, text]),
    ...line.attempts.map(({ from, name, text }) => [from, "Attempt", text || name]),
  ].sort(([one], [other]) => one - other).map(([at, name, text]) => [seconds(at), name, text]);
  if (line.ticks.length) rows.push(["", "Chunks", `${line.ticks.length} between ${seconds(line.ticks[0])} and ${seconds(line.ticks.at(-1))}`]);
  return table("Times since the turn was sent", ["Time", "What", "Meaning"], rows);
}
