// What stands beside the chart about the strategy that is pointed at.

import { UNITS, priced, report, unit } from "./data.js";
import { byId, make, pairs, withText } from "./dom.js";
import { amount, chance, count, ends, known, points, ratio, share } from "./numbers.js";

/** Return an accuracy with its interval, in one line. */
export function accuracyOf(strategy) {
  const [low, high] = strategy.interval || [];
  const interval = ends(low, high, share);
  return share(strategy.accuracy) + (interval ? ` (${interval})` : "");
}

/** Show what is known of a strategy, or of the oracle; `others` are at the same spot. */
export function showReadout(strategy, others = []) {
  const box = byId("readout");
  if (!strategy) {
    box.replaceChildren(make("p", { className: "hint", textContent: "No strategy has a value on this axis." }));
    return;
  }
  const gain = strategy.gain_over_chord && strategy.gain_over_chord[unit.current];
  const ace = strategy.ace && strategy.ace[unit.current];
  const against = strategy.against_mentor;
  const units = Object.keys(UNITS).filter((name) => known(strategy.cost[name]));
  box.replaceChildren(
    withText("h3", strategy.name, { className: strategy.tone || "" }),
    make("p", { className: "large" }, share(strategy.accuracy), make("small", {}, " right")),
    make("p", { className: "hint", textContent: intervalOf(strategy) }),
    make(
      "dl",
      { className: "lines" },
      ...pairs([
        ["Gain over the chord", gain && known(gain.value) ? spread(gain, points, " points") : null],
        ["ACE", ace && known(ace.value) ? spread(ace, ratio, "") : null],
        ["Less mentor-only", against && known(against.value) ? spread(against, points, " points") : null],
        ["McNemar’s p", against && known(against.mcnemar_p) ? chance(against.mcnemar_p) : null],
        ...units.map((name) => [UNITS[name].name, cost(strategy, name)]),
        ["Partial", strategy.status === "partial" ? `${count(strategy.n)} of ${count(report.n)} problems` : null],
      ]),
    ),
    others.length ? withText("p", `At the same spot: ${others.map((one) => one.name).join(", ")}`, { className: "hint" }) : "",
  );
}

/** Return the text of a point for a screen reader. */
export function spoken(strategy) {
  return `${strategy.name}: ${accuracyOf(strategy)} right, ${priced(strategy.cost[unit.current], unit.current)} a problem`;
}

function intervalOf(strategy) {
  if (!strategy.interval) return strategy.about || "";
  const [low, high] = strategy.interval;
  return `95 % interval ${ends(low, high, share)}`;
}

function spread({ value, low, high }, form, after) {
  const interval = ends(low, high, form);
  return make("span", {}, `${form(value)}${after}`, interval ? make("small", { textContent: interval }) : "");
}

function cost(strategy, name) {
  const text = amount(strategy.cost[name], name);
  return name === unit.current ? make("strong", { textContent: text }) : text;
}
