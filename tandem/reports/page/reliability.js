// Predicted sufficiency against what came of it, one small plot for each strategy that predicts.

import { report } from "./data.js";
import { byId, draw, make, withText } from "./dom.js";
import { count, counted, known, share, wilson } from "./numbers.js";
import { frame } from "./plot.js";

const SIZE = { width: 270, height: 270, margin: { left: 46, right: 8, top: 12, bottom: 46 } };
const COLUMNS = 0.16; // the highest column, as a part of the plot

/** Show the plots. */
export function showReliability() {
  const found = Object.entries(report.reliability || {})
    .map(([name, bins]) => [name, bins.filter((bin) => bin.n > 0 && known(bin.predicted) && known(bin.observed))])
    .filter(([, bins]) => bins.length);
  if (!found.length) return;
  byId("reliability").hidden = false;
  byId("reliability-plots").append(...found.map(([name, bins]) => multiple(name, bins)));
}

function multiple(name, bins) {
  const total = bins.reduce((sum, bin) => sum + bin.n, 0);
  const error = bins.reduce((sum, bin) => sum + bin.n * Math.abs(bin.predicted - bin.observed), 0) / total;
  const about = `${counted(total, "answer")}; calibration error ${error.toFixed(3)}`;
  return make(
    "figure",
    { className: "multiple" },
    make("figcaption", {}, withText("h3", name), make("p", { className: "hint", textContent: about })),
    drawn(name, bins),
    make("details", {}, make("summary", { textContent: "Figures" }), figuresOf(bins)),
  );
}

function drawn(name, bins) {
  const marks = [0, 0.25, 0.5, 0.75, 1];
  const chart = frame({
    ...SIZE,
    x: { low: 0, high: 1, ticks: marks, form: String, name: "predicted sufficiency" },
    y: { low: 0, high: 1, ticks: marks, form: (value) => share(value, 0) },
    label: `Reliability of ${name}; its figures are in the list below.`,
  });
  const { svg, atX, atY, area } = chart;
  svg.setAttribute("role", "img");
  const most = Math.max(...bins.map((bin) => bin.n));
  for (const { low, high, n } of bins) {
    if (!known(low) || !known(high)) continue;
    const tall = (n / most) * COLUMNS * (area.bottom - area.top);
    const box = { x: atX(low) + 1, width: Math.max(1, atX(high) - atX(low) - 2), y: area.bottom - tall, height: tall };
    svg.append(draw("rect", { class: "tally", ...box }));
  }
  svg.append(draw("path", { class: "chord", d: `M${atX(0)} ${atY(0)}L${atX(1)} ${atY(1)}` }));
  const corners = bins.map((bin) => `${atX(bin.predicted)} ${atY(bin.observed)}`);
  svg.append(draw("path", { class: "trace", d: `M${corners.join("L")}` }));
  for (const { predicted, observed, n } of bins) {
    const [low, high] = wilson(observed * n, n);
    const x = atX(predicted);
    svg.append(draw("path", { class: "interval", d: `M${x} ${atY(low)}V${atY(high)}` }));
    const dot = draw("circle", { class: "dot front", cx: x, cy: atY(observed), r: 3 + 3.5 * Math.sqrt(n / most) });
    dot.append(draw("title", {}, `predicted ${predicted.toFixed(2)}, right ${share(observed)}, of ${count(n)}`));
    svg.append(dot);
  }
  return svg;
}

function figuresOf(bins) {
  const head = ["Sufficiency", "Answers", "Mean", "Right"].map((text) => make("th", { scope: "col", textContent: text }));
  const rows = bins.map(({ low, high, n, predicted, observed }) => {
    const range = known(low) && known(high) ? `${low.toFixed(1)}–${high.toFixed(1)}` : "–";
    const cells = [count(n), predicted.toFixed(2), share(observed)].map((text) => make("td", { textContent: text }));
    return make("tr", {}, make("th", { scope: "row", textContent: range }), ...cells);
  });
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}
