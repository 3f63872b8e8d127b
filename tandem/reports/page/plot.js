// The frame that charts are drawn in: scales, grid, axes.

import { draw } from "./dom.js";

const DIGIT = 7;

/** Return a frame of `width` by `height`: an SVG, with functions from values to positions in it. */
export function frame({ width, height, margin, x, y, label }) {
  const area = { left: margin.left, top: margin.top, right: width - margin.right, bottom: height - margin.bottom };
  const scale = (axis, from, to) => {
    const span = axis.high - axis.low || 1;
    return (value) => from + ((value - axis.low) / span) * (to - from);
  };
  const atX = scale(x, area.left, area.right);
  const atY = scale(y, area.bottom, area.top);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  const grid = draw("g", { class: "grid", "aria-hidden": "true" });
  for (const value of y.ticks) {
    grid.append(
      draw("line", { x1: area.left, x2: area.right, y1: atY(value), y2: atY(value) }),
      draw("text", { x: area.left - 8, y: atY(value) + 4, "text-anchor": "end" }, y.form(value)),
    );
  }
  const texts = x.ticks.map((value) => [atX(value), x.form(value)]);
  const widest = Math.max(0, ...texts.map(([, text]) => text.length)) * DIGIT + 12;
  const room = texts.length > 1 ? texts[1][0] - texts[0][0] : Infinity;
  const every = Math.ceil(widest / room);
  texts.forEach(([at, text], place) => {
    grid.append(draw("line", { class: "stub", x1: at, x2: at, y1: area.bottom, y2: area.bottom + 5 }));
    if (place % every === 0) grid.append(draw("text", { x: at, y: area.bottom + 20, "text-anchor": "middle" }, text));
  });
  grid.append(draw("line", { class: "axis", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }));
  if (x.name) {
    grid.append(draw("text", { class: "name", x: area.right, y: height - 6, "text-anchor": "end" }, x.name));
  }
  if (y.name) grid.append(draw("text", { class: "name", x: 0, y: 13 }, y.name));
  svg.append(grid);
  return { svg, area, atX, atY };
}
