// Accuracy against cost: the strategies, the chord that any of them must beat, the Pareto frontier, the oracle.

import { UNITS, hasPoints, named, priced, report, unit } from "./data.js";
import { byId, draw, make } from "./dom.js";
import { placeLabels } from "./labels.js";
import { figure, known, share, ticks } from "./numbers.js";
import { frame } from "./plot.js";
import { showReadout, spoken } from "./readout.js";

const NEAR = 36;
const LONGEST = 24;
const NARROW = 480;
const FEW = 8; // names that a narrow chart has room for
let shown = null; // the name of the strategy in the readout

/** Draw the chart, and again whenever the axis or the room changes. */
export function startFrontier() {
  if (!report.ran.length || (report.kind === "run" && !report.ran.some((one) => known(one.accuracy)))) return;
  byId("frontier").hidden = false;
  const choice = byId("units");
  for (const [name, { name: text }] of Object.entries(UNITS)) {
    const input = make("input", { type: "radio", name: "unit", value: name, id: `unit-${name}` });
    input.disabled = !hasPoints(name);
    input.checked = name === unit.current;
    input.addEventListener("change", () => unit.choose(name));
    const label = make("label", { htmlFor: input.id, textContent: text });
    if (input.disabled) label.title = "No strategy has a value in this unit";
    choice.append(make("span", {}, input, label));
  }
  unit.whenChosen(redraw);
  redraw();
  let width = byId("plot").clientWidth;
  new ResizeObserver(() => {
    if (byId("plot").clientWidth === width) return;
    width = byId("plot").clientWidth;
    redraw();
  }).observe(byId("plot"));
}

function candidates() {
  const points = report.ran
    .filter((one) => known(one.accuracy) && known(one.cost[unit.current]))
    .map((one) => ({ ...one, tone: { "mentor-only": "mentor", "intern-only": "intern" }[one.name] || "" }));
  points.sort((a, b) => a.cost[unit.current] - b.cost[unit.current] || b.accuracy - a.accuracy);
  let best = -Infinity;
  // A part is of other problems, and an upper bound looks at the reference.
  for (const point of points.filter((one) => one.status === "finished" && !one.upper_bound)) {
    point.pareto = point.accuracy > best;
    best = Math.max(best, point.accuracy);
  }
  return points;
}

/** Return the chord as corners: from intern-only to mentor-only, then flat; null without both. */
function chord(high) {
  const ends = ["intern-only", "mentor-only"].map(named);
  if (!ends.every((one) => one && known(one.accuracy) && known(one.cost[unit.current]))) return null;
  const [from, to] = ends.map((one) => [one.cost[unit.current], one.accuracy]);
  return to[0] > from[0] ? [from, to, [high, to[1]]] : [[to[0], to[1]], [high, to[1]]];
}

function oracle() {
  const { accuracy, cost } = report.oracle || {};
  if (!known(accuracy) || !cost || !known(cost[unit.current])) return null;
  const about = "per problem the cheapest strategy that was right";
  return { name: "oracle", accuracy, cost, about, tone: "oracle", place: -1 };
}

/** Return what the mentor alone would have cost for a problem of a run, if that was estimated in this unit. */
function alone() {
  const { unit: counted, cost } = report.alone || {};
  return counted === unit.current && known(cost) ? cost : null;
}

function domain(points) {
  const costs = [...points.map((one) => one.cost[unit.current]), ...(known(alone()) ? [alone()] : [])];
  const top = Math.max(...costs, 0) || 1;
  const least = Math.min(...costs);
  const x = { low: least > 0.6 * top && least < top ? least - (top - least) : 0, high: top };
  x.high += 0.07 * (x.high - x.low);
  const values = points.flatMap((one) => [one.accuracy, ...(one.interval || [])]);
  const y = { low: Math.max(0, Math.min(...values) - 0.02), high: Math.min(1, Math.max(...values) + 0.02) };
  if (y.high - y.low < 0.1) [y.low, y.high] = [Math.max(0, y.low - 0.05), Math.min(1, y.high + 0.05)];
  return { x, y };
}

function redraw() {
  const host = byId("plot");
  const points = candidates();
  const best = oracle();
  const all = best ? [...points, best] : points;
  const off = report.ran.filter((one) => !points.some((point) => point.place === one.place));
  const without = off.length ? `Without a value on this axis: ${off.map((one) => one.name).join(", ")}.` : "";
  byId("off-axis").textContent = without;
  if (!points.length) {
    host.replaceChildren(make("p", { className: "empty", textContent: "No strategy has a value on this axis." }));
    byId("legend").replaceChildren();
    showReadout(null);
    return;
  }
  const width = Math.max(280, host.clientWidth);
  const height = Math.round(width < NARROW ? width * 1.25 : Math.min(520, Math.max(400, width * 0.62)));
  const { x, y } = domain(all);
  const marks = { x: ticks(x.low, x.high, width / 110), y: ticks(y.low, y.high, 6) };
  const digits = marks.y.step < 0.0099 ? 1 : 0;
  const chart = frame({
    width,
    height,
    margin: { left: 46, right: 10, top: 30, bottom: 48 },
    x: { ...x, ticks: marks.x.found, form: figure, name: UNITS[unit.current].axis },
    y: { ...y, ticks: marks.y.found, form: (value) => share(value, digits), name: "Right" },
    label: `Accuracy against ${UNITS[unit.current].axis}. The table of strategies holds the same figures.`,
  });
  const crowded = width < NARROW && all.length > FEW;
  const placed = all.map((one) => ({
    one,
    x: chart.atX(one.cost[unit.current]),
    y: chart.atY(one.accuracy),
    r: 6,
    quiet: crowded && !one.pareto && !one.tone, // named when it is pointed at
  }));
  if (crowded) byId("off-axis").textContent = `Point at a circle for its name. ${without}`;
  const corners = chord(x.high);
  const front = points.filter((one) => one.pareto);
  const bound = alone();
  const lines = draw("g", { "aria-hidden": "true" });
  const avoided = [];
  if (corners) lines.append(line("chord", corners.map(([a, b]) => [chart.atX(a), chart.atY(b)]), avoided));
  const spots = front.map((one) => [chart.atX(one.cost[unit.current]), chart.atY(one.accuracy)]);
  if (front.length > 1) lines.append(line("pareto", spots, avoided));
  if (known(bound)) {
    const at = chart.atX(bound);
    lines.append(line("alone", [[at, chart.area.top], [at, chart.area.bottom]], avoided));
  }
  chart.svg.append(lines);
  const bars = draw("g", { "aria-hidden": "true" });
  chart.svg.append(bars);
  for (const point of placed) {
    if (!point.one.interval) continue;
    const [low, high] = point.one.interval.map(chart.atY);
    point.bar = draw("path", {
      class: "interval",
      d: `M${point.x - 3} ${high}h6M${point.x} ${high}V${low}M${point.x - 3} ${low}h6`,
    });
    bars.append(point.bar);
    for (let at = high; at <= low; at += 5) avoided.push([point.x, at]);
  }
  host.replaceChildren(chart.svg);
  addLabels(chart, placed, avoided);
  addPoints(chart, placed);
  showLegend({
    corners,
    front: front.length > 1,
    best,
    intervals: points.some((one) => one.interval),
    partial: points.some((one) => one.status === "partial"),
    bound,
  });
}

/** Return a line through corners, and note places on it, so that labels keep off. */
function line(kind, corners, avoided) {
  corners.slice(1).forEach(([x, y], place) => {
    const [fromX, fromY] = corners[place];
    const steps = Math.ceil(Math.hypot(x - fromX, y - fromY) / 8) || 1;
    for (let i = 0; i <= steps; i += 1) {
      avoided.push([fromX + ((x - fromX) * i) / steps, fromY + ((y - fromY) * i) / steps]);
    }
  });
  return draw("path", { class: kind, d: `M${corners.map((at) => at.map((n) => n.toFixed(1)).join(" ")).join("L")}` });
}

function addLabels({ svg, area }, placed, avoided) {
  const layer = draw("g", { class: "labels", "aria-hidden": "true" });
  svg.append(layer);
  for (const point of placed) {
    const name = Array.from(point.one.name);
    const text = name.length > LONGEST ? `${name.slice(0, LONGEST - 1).join("")}…` : point.one.name;
    point.label = draw("text", { class: point.one.tone, direction: "ltr" }, text);
    layer.append(point.label);
    point.label.classList.add("on"); // as wide as it gets: the one that is pointed at is bold
    point.width = Math.max(8, point.label.getComputedTextLength());
    point.label.classList.remove("on");
    point.height = 15;
  }
  const boxes = placeLabels(placed, { ...area, top: area.top - 12, right: area.right + 8 }, avoided);
  placed.forEach((point, place) => {
    const box = boxes[place] || { left: aside(point, area), bottom: point.y + 8 };
    const before = box.right <= point.x;
    point.label.setAttribute("x", (before ? box.right : box.left).toFixed(1));
    point.label.setAttribute("text-anchor", before ? "end" : "start");
    point.label.setAttribute("y", (box.bottom - 3.5).toFixed(1));
    if (!boxes[place]) point.label.classList.add("unplaced");
    if (!box.far) return;
    const x2 = Math.min(box.right, Math.max(box.left, point.x));
    const y2 = point.y > box.bottom ? box.bottom : point.y < box.top ? box.top : (box.top + box.bottom) / 2;
    layer.prepend(draw("line", { class: "leader", x1: point.x, y1: point.y, x2, y2 }));
  });
}

/** Return where a label begins that has no place of its own, and is seen only while its point is pointed at. */
function aside({ x, r, width }, area) {
  return x + r + 5 + width <= area.right + 8 ? x + r + 5 : Math.max(0, x - r - 5 - width);
}

function shape({ one, x, y }) {
  if (one.tone === "oracle") return draw("path", { class: "dot oracle", d: `M${x} ${y - 7}l7 7l-7 7l-7-7z` });
  if (one.tone) return draw("rect", { class: `dot ${one.tone}`, x: x - 5.5, y: y - 5.5, width: 11, height: 11 });
  return draw("circle", { class: `dot ${one.pareto ? "front" : "behind"} ${one.status}`, cx: x, cy: y, r: 5.5 });
}

function gained({ one }) {
  const gain = one.tone || one.status !== "finished" ? null : one.gain_over_chord[unit.current].value;
  return known(gain) ? gain : -Infinity;
}

function addPoints({ svg }, placed) {
  const layer = draw("g");
  const show = (point) => {
    shown = point.one.name;
    for (const other of placed) {
      const on = other === point;
      other.group.classList.toggle("on", on);
      other.group.setAttribute("tabindex", on ? "0" : "-1");
      if (other.bar) other.bar.classList.toggle("on", on);
      other.label.classList.toggle("on", on);
    }
    const same = placed.filter((other) => other !== point && Math.hypot(other.x - point.x, other.y - point.y) < 3);
    showReadout(point.one, same.map((other) => other.one));
  };
  const order = [...placed].sort((a, b) => a.x - b.x || b.y - a.y);
  for (const point of placed) {
    const halo = draw("circle", { class: "halo", cx: point.x, cy: point.y, r: 11 });
    point.group = draw("g", { class: "point", role: "img", "aria-label": spoken(point.one) }, halo, shape(point));
    point.group.addEventListener("focus", () => show(point));
    layer.append(point.group);
  }
  layer.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const ends = { Home: 0, End: order.length - 1 }[event.key];
    if (step === undefined && ends === undefined) return;
    event.preventDefault();
    const now = order.findIndex(({ group }) => group === document.activeElement);
    order[ends ?? Math.min(order.length - 1, Math.max(0, now + step))].group.focus();
  });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const far = ({ x, y }) => Math.hypot(x - (event.clientX - box.left), y - (event.clientY - box.top));
    const nearest = placed.reduce((best, point) => (far(point) < far(best) ? point : best));
    if (far(nearest) < NEAR && nearest.one.name !== shown) show(nearest);
  });
  svg.append(layer);
  show(placed.find(({ one }) => one.name === shown) || placed.reduce((best, one) => (gained(one) > gained(best) ? one : best)));
}

function showLegend({ corners, front, best, intervals, partial, bound }) {
  const entry = (kind, text) => {
    const swatch = draw("svg", { class: "swatch", viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" });
    if (kind === "oracle") swatch.append(draw("path", { class: "dot oracle", d: "M13 1l5 5l-5 5l-5-5z" }));
    else if (kind === "partial") swatch.append(draw("circle", { class: "dot behind partial", cx: 13, cy: 6, r: 5 }));
    else if (kind === "interval") swatch.append(draw("path", { class: kind, d: "M10 1h6M13 1V11M10 11h6" }));
    else swatch.append(draw("path", { class: kind, d: "M1 6H25" }));
    return make("li", {}, swatch, text);
  };
  byId("legend").replaceChildren(
    ...[
      corners && entry("chord", "the chord: intern and mentor by coin, what any method must beat"),
      front && entry("pareto", "Pareto frontier: nothing else is both cheaper and better"),
      best && entry("oracle", "the oracle"),
      intervals && entry("interval", "95 % interval"),
      known(bound) && entry("alone", `the mentor alone, estimated: ${priced(bound, unit.current)} a problem`),
      partial && entry("partial", "partial: not all problems yet"),
    ].filter(Boolean),
  );
}
