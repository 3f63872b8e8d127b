// The data of this page: the figures at once, the problems' details only when they are asked for.

import { byId } from "./dom.js";
import { amount, known } from "./numbers.js";

const read = (id) => JSON.parse(byId(id).textContent);

export const report = read("data");
report.ran = report.strategies
  .map((strategy, place) => ({ ...strategy, place }))
  .filter((strategy) => strategy.status !== "skipped");

const capital = (label) => label[0].toUpperCase() + label.slice(1);

/** What accuracy is drawn against: the heading of each, and its axis. */
export const UNITS = Object.fromEntries(
  Object.entries(report.axes).map(([unit, label]) => [unit, { name: capital(label), label, axis: `${label} a problem` }]),
);

/** Return a cost with its unit. */
export function priced(number, unit) {
  if (!known(number)) return "–";
  const text = amount(number, unit);
  return unit === "usd" ? `${UNITS.usd.label} ${text}` : `${text} ${UNITS[unit].label}`;
}

export const named = (name) => report.ran.find((strategy) => strategy.name === name);

/** Whether any strategy has a value in a unit. */
export const hasValues = (unit) => report.ran.some((strategy) => known(strategy.cost[unit]));

/** Whether a chart can be drawn along a unit. */
export const hasPoints = (unit) => report.ran.some((one) => known(one.cost[unit]) && known(one.accuracy));

const listeners = [];

/** The cost unit that the page is read in; those that draw by it are called when it changes. */
export const unit = {
  current: [report.unit, ...Object.keys(UNITS)].find(hasPoints) || report.unit,
  choose(name) {
    this.current = name;
    for (const listener of listeners) listener(name);
  },
  whenChosen(listener) {
    listeners.push(listener);
  },
};

const parts = new Map();

/** Return the details of a problem, with its long texts in place of their numbers. */
export function details(place) {
  const { starts } = report.problems;
  let part = starts.length - 1;
  while (part > 0 && starts[part] > place) part -= 1;
  if (!parts.has(part)) parts.set(part, read(`part-${part}`));
  const { texts, problems } = parts.get(part);
  return { ...problems[place - starts[part]], textOf: (number) => texts[number] };
}
