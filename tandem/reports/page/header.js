// The head of the page: who worked on what, when; a run's own figures; what was shared.

import { report } from "./data.js";
import { byId, make, pairs, withText } from "./dom.js";
import { count, share } from "./numbers.js";

function when(text) {
  const date = new Date(text);
  if (!text || Number.isNaN(date.getTime())) return text;
  const shown = new Intl.DateTimeFormat("en", { dateStyle: "long", timeZone: "UTC" }).format(date);
  return make("time", { dateTime: text, textContent: shown });
}

/** Fill the head. */
export function showHeader() {
  const { pair, dataset, kind } = report;
  byId("kind").textContent = kind === "run" ? "run" : "comparison";
  byId("pair").replaceChildren(
    ...["mentor", "intern"].map((role) =>
      make("span", { className: role }, make("small", { textContent: `${role} ` }), withText("span", pair[role])),
    ),
  );
  const judged = report.graded === report.n ? "" : `, ${count(report.graded)} judged`;
  const data = [dataset.name, dataset.split].filter(Boolean).join(", ");
  byId("about").append(
    ...pairs([
      ["Data set", data ? withText("span", data) : null],
      ["Problems", `${count(report.n)}${judged}`],
      [kind === "run" ? "Strategy" : "Strategies", kind === "run" ? withText("span", report.ran[0].name) : tally()],
      ["Started", when(report.started)],
      ["Tokens generated", report.shared ? sharing() : null],
    ]),
  );
  byId("synthetic").hidden = !report.synthetic;
  byId("verdict").hidden = !report.verdict;
  byId("verdict").replaceChildren(withText("span", report.verdict || ""));
  const warnings = report.warnings || [];
  byId("warnings").hidden = !warnings.length;
  byId("warnings").append(...warnings.map((text) => withText("li", text)));
  byId("facts").hidden = kind !== "run";
  byId("facts-list").append(...pairs((report.facts || []).map(([name, text]) => [name, withText("span", text)])));
  byId("foot").textContent = `Written by Tandem${report.version ? ` ${report.version}` : ""}. All data is in this file.`;
}

function tally() {
  const skipped = report.strategies.length - report.ran.length;
  return `${report.ran.length} compared${skipped ? `, ${skipped} skipped` : ""}`;
}

function sharing() {
  const { share: part } = report.shared;
  return typeof part === "number" ? `${share(part, 0)} of those charged` : null;
}
