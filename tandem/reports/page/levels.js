// Which levels each strategy used: one stacked bar each, from no insight to the mentor's own answer.

import { report } from "./data.js";
import { byId, make, withText } from "./dom.js";
import { count, share } from "./numbers.js";

const FIRST = ["question", "none", "low", "medium", "high"];
const USUAL = { question: 0, none: 0, low: 1, medium: 2, high: 3, answer: 5 };
const COLOURS = 6;
const LEGIBLE = 0.07; // of the bar's width

/** Return the level names that occur, the known ones in their order, `answer` last. */
export function ladder() {
  const found = [...new Set(report.ran.flatMap((one) => Object.keys(one.levels)))];
  const rank = (name) => (name === "answer" ? 99 : FIRST.includes(name) ? FIRST.indexOf(name) : 50);
  return found.sort((a, b) => rank(a) - rank(b));
}

/** Return the colour of each level: the usual ones have theirs; others are spread over the scale, in their order. */
function huesOf(names) {
  const usual = names.every((name) => Object.hasOwn(USUAL, name));
  const step = (COLOURS - 1) / Math.max(1, names.length - 1);
  return new Map(names.map((name, place) => [name, `hue-${usual ? USUAL[name] : Math.round(place * step)}`]));
}

const toneOf = (name) => ({ "mentor-only": "mentor", "intern-only": "intern" })[name] || "";

/** Show the bars. */
export function showLevels() {
  const names = ladder();
  const hues = huesOf(names);
  const rows = report.ran.filter((one) => Object.values(one.levels).some(Boolean));
  if (!rows.length) return;
  byId("levels").hidden = false;
  byId("levels-legend").append(
    ...names.map((name) => make("li", {}, make("span", { className: `chip ${hues.get(name)}` }), withText("span", name))),
  );
  byId("levels-bars").append(...rows.map((one) => row(one, hues)));
}

function row(one, hues) {
  const total = Object.values(one.levels).reduce((sum, n) => sum + n, 0);
  const used = [...hues.keys()].map((name) => ({ name, n: one.levels[name] || 0 })).filter(({ n }) => n > 0);
  const spokenAs = used.map(({ name, n }) => `${name} ${count(n)}`).join(", ");
  const bar = make("div", { className: "bar", role: "img", "aria-label": `${one.name}: ${spokenAs}` });
  for (const { name, n } of used) {
    const title = `${name}: ${count(n)}, ${share(n / total, 0)}`;
    const part = make("span", { className: hues.get(name), title });
    part.style.flexGrow = n;
    if (n / total >= LEGIBLE) part.textContent = count(n);
    bar.append(part);
  }
  return make("div", { className: "level-row" }, withText("span", one.name, { className: `name ${toneOf(one.name)}`, title: one.name }), bar);
}
