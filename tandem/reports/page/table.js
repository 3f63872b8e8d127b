// The strategies as a table that sorts; it holds every figure of the chart.

import { UNITS, hasValues, priced, report, unit } from "./data.js";
import { byId, make, pairs, withText } from "./dom.js";
import { ladder } from "./levels.js";
import { amount, chance, count, ends, known, points, ratio, share } from "./numbers.js";

const sorting = { key: null, descending: false };

const nested = (strategy, field) => (strategy[field] ? strategy[field][unit.current] || {} : {});
const cutAnswers = ({ truncated }) => truncated.mentor + truncated.intern;

/** Return the columns: how each is called, sorted and shown. */
function layout() {
  const units = Object.keys(UNITS).filter(hasValues);
  return [
    { key: "name", name: "Strategy", sort: (one) => one.name.toLowerCase(), first: "ascending" },
    {
      key: "accuracy",
      name: "Accuracy",
      sort: (one) => one.accuracy,
      show: (one) => cell(share(one.accuracy), one.interval ? ends(...one.interval, (end) => (100 * end).toFixed(1)) : ""),
    },
    ...units.map((name) => ({
      key: name,
      name: UNITS[name].name,
      sort: (one) => one.cost[name],
      show: (one) => cell(amount(one.cost[name], name)),
      first: "ascending",
    })),
    {
      key: "gain",
      name: "Gain over chord",
      under: `points, at equal ${UNITS[unit.current].label}`,
      sort: (one) => nested(one, "gain_over_chord").value,
      show: (one) => spreadCell(nested(one, "gain_over_chord"), points),
    },
    {
      key: "ace",
      name: "ACE",
      sort: (one) => nested(one, "ace").value,
      show: (one) => spreadCell(nested(one, "ace"), ratio),
    },
    {
      key: "against",
      name: "Less mentor-only",
      under: "points",
      sort: (one) => one.against_mentor?.value,
      show: (one) => spreadCell(one.against_mentor || {}, points),
    },
    {
      key: "p",
      name: "McNemar’s p",
      under: "won, lost",
      sort: (one) => one.against_mentor?.mcnemar_p,
      show: (one) => cell(chance(one.against_mentor?.mcnemar_p), tallied(one.against_mentor)),
      first: "ascending",
    },
    {
      key: "cut",
      name: "Cut",
      under: "at the token cap",
      sort: cutAnswers,
      show: (one) => cell(count(cutAnswers(one)), cutAnswers(one) ? cutBy(one.truncated) : ""),
    },
    { key: "errors", name: "Errors", sort: (one) => one.errors, show: (one) => cell(count(one.errors)) },
    { key: "levels", name: "Levels", show: (one) => textCell(levelsText(one)) },
  ];
}

/** Show the table, and below it the notes on strategies, and of those that were skipped. */
export function startTable() {
  if (report.kind === "run") return;
  byId("strategies").hidden = false;
  unit.whenChosen(showTable);
  showTable();
  const skipped = report.strategies.filter((one) => one.status === "skipped");
  listBelow("skipped", "Skipped", skipped.map((one) => [one.name, one.reason || "no reason was given"]));
  const notes = report.ran.map((one) => [one.name, [...one.notes, ...offline(one)].join("; ")]);
  listBelow("notes", "Notes", [["Every strategy", report.notes.join("; ")], ...notes]);
}

function listBelow(id, title, rows) {
  const told = rows.filter(([, text]) => text).map(([name, text]) => [name, withText("span", text)]);
  byId(id).hidden = !told.length;
  byId(id).replaceChildren(make("h3", { textContent: title }), make("dl", {}, ...pairs(told)));
}

function showTable() {
  if (!report.ran.length) {
    byId("table").replaceChildren(make("p", { className: "empty", textContent: "No strategy has finished a problem yet." }));
    return;
  }
  byId("strategies-hint").textContent =
    `Below a figure stands its 95 % interval. Costs are means a problem, every strategy charged in full; the gain over ` +
    `the chord, at equal cost, and ACE go by ${UNITS[unit.current].label}, the axis of the chart.`;
  const columns = layout();
  const rows = sorted(columns.find(({ key }) => key === sorting.key));
  byId("table").replaceChildren(
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...columns.map(heading))),
      make("tbody", {}, ...rows.map((one) => make("tr", {}, nameCell(one), ...columns.slice(1).map((c) => c.show(one))))),
    ),
  );
}

function sorted(column) {
  if (!column) return report.ran;
  const missing = (value) => value === null || value === undefined;
  return [...report.ran].sort((a, b) => {
    const [x, y] = [column.sort(a), column.sort(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y); // what has no value comes last, either way
    const order = x < y ? -1 : x > y ? 1 : 0;
    return sorting.descending ? -order : order;
  });
}

function heading({ key, name, under, sort, first }) {
  const small = under ? make("small", { textContent: under }) : "";
  if (!sort) return make("th", { scope: "col", className: "wide" }, make("span", {}, name, small));
  const button = make("button", { type: "button", id: `sort-${key}` }, make("span", { textContent: name }), small);
  button.addEventListener("click", () => {
    sorting.descending = sorting.key === key ? !sorting.descending : first !== "ascending";
    sorting.key = key;
    showTable();
    byId(`sort-${key}`).focus();
  });
  const now = sorting.key !== key ? "none" : sorting.descending ? "descending" : "ascending";
  return make("th", { scope: "col", "aria-sort": now }, button);
}

function nameCell(one) {
  const tone = { "mentor-only": "mentor", "intern-only": "intern" }[one.name] || "";
  const partial = one.status === "partial" ? `${count(one.n)} of ${count(report.n)} problems` : "";
  const badge = partial ? make("small", { textContent: `partial: ${partial}`, className: "warn" }) : "";
  return make("th", { scope: "row" }, withText("span", one.name, { className: tone }), badge);
}

function cell(text, under = "") {
  return make("td", {}, text, under ? make("small", { textContent: under }) : "");
}

function textCell(text) {
  return withText("td", text, { className: "wide" });
}

function spreadCell({ value, low, high }, form) {
  return known(value) ? cell(form(value), ends(low, high, form)) : cell("–");
}

function tallied(against) {
  return against && known(against.won) && known(against.lost) ? `${count(against.won)}, ${count(against.lost)}` : "";
}

function cutBy({ mentor, intern }) {
  return [mentor && `mentor ${mentor}`, intern && `intern ${intern}`].filter(Boolean).join(", ");
}

function levelsText({ levels }) {
  const used = ladder().filter((level) => levels[level]);
  return used.map((level) => `${level} ${count(levels[level])}`).join(", ");
}

function offline({ offline: price }) {
  if (!price) return [];
  const paid = Object.keys(UNITS)
    .filter((name) => known(price[name]))
    .map((name) => priced(price[name], name));
  const even = known(price.break_even_problems) ? `, even after ${count(price.break_even_problems)} problems` : "";
  return paid.length ? [`paid beforehand: ${paid.join(", ")}${even}`] : [];
}
