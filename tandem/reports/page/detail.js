// One opened problem: its question and, strategy by strategy, insight, decisions, answer and cost.

import { UNITS, details, priced, report, unit } from "./data.js";
import { longText, make, pairs, withText, shortText } from "./dom.js";
import { amount, count, counted, known } from "./numbers.js";

export const MARKS = {
  r: { kind: "right", name: "right" },
  w: { kind: "wrong", name: "wrong" },
  e: { kind: "error", name: "failed" },
  u: { kind: "unjudged", name: "not graded" },
  "-": { kind: "none", name: "no record" },
};
const ACTIONS = { stop: "Stop", go_on: "Go on", answer: "Mentor answers" };

/** Return the mark of a letter: a shape, so that colour is not all that tells. */
export function markOf(letter) {
  const { kind } = MARKS[letter.toLowerCase()] || MARKS["-"];
  const cut = letter !== letter.toLowerCase();
  return make("i", { className: `is is-${kind}${cut ? " is-cut" : ""}`, "aria-hidden": "true" });
}

/** Return what a letter means, in words. */
export function meaning(letter) {
  const { name } = MARKS[letter.toLowerCase()] || MARKS["-"];
  return letter === letter.toLowerCase() ? name : `${name}, cut at the token cap`;
}

/** Return an opened problem. */
export function openedProblem(place) {
  const found = details(place);
  const letters = Array.from(report.problems.marks[place]);
  const box = make("div", { className: "opened" });
  const question = known(found.question) ? longText(found.textOf(found.question)) : null;
  box.append(
    make(
      "div",
      { className: "asked" },
      make("h3", { textContent: "Question" }),
      question
        ? make("div", { className: "text" }, ...question)
        : make("p", { className: "hint", textContent: "The question’s text was not kept with these records." }),
      make(
        "dl",
        { className: "lines" },
        ...pairs([
          ["Reference", found.reference === null ? null : withText("span", shortText(found.reference))],
          ["Task", found.task],
        ]),
      ),
    ),
  );
  const only = report.ran.length === 1;
  for (const strategy of report.ran) {
    const record = found.records[strategy.place];
    box.append(record ? solved(strategy, record, letters[strategy.place], found.textOf, only) : missing(strategy));
  }
  return box;
}

function missing(strategy) {
  return make("p", { className: "solved none" }, markOf("-"), withText("span", strategy.name), make("small", {}, "no record"));
}

function solved(strategy, record, letter, textOf, open) {
  const answer = record.error ? "failed" : record.answer === undefined ? "no answer found" : shortText(record.answer);
  const line = make(
    "summary",
    {},
    markOf(letter),
    withText("span", strategy.name, { className: "name" }),
    make("span", { className: "unseen", textContent: `: ${meaning(letter)}` }),
    withText("span", answer.replace(/\s+/g, " "), { className: "short" }),
    make("small", { className: "level", dir: "auto" }, record.level ? `level ${record.level}` : ""),
    make("small", { className: "price" }, priced(record.cost[unit.current], unit.current)),
  );
  const box = make("details", { className: "solved" }, line);
  const fill = () => {
    if (box.open && box.childElementCount === 1) box.append(solution(record, letter, textOf));
  };
  box.addEventListener("toggle", fill);
  box.open = open;
  fill();
  return box;
}

function solution(record, letter, textOf) {
  const wrote = make("div", { className: "column" });
  const beside = make("div", { className: "column" });
  if (record.error) wrote.append(withText("p", shortText(record.error), { className: "failure" }));
  const sections = record.sections || (known(record.insight) ? [["insight", record.insight]] : []);
  if (sections.length) {
    const parts = sections.map(([name, text]) =>
      make("section", { className: "part" }, withText("h4", name), make("div", { className: "text" }, ...longText(textOf(text)))),
    );
    wrote.append(block("Insight", "the mentor’s words", make("div", { className: "sections" }, ...parts)));
  }
  if (known(record.thinking)) {
    const thought = make("div", { className: "text" }, ...longText(textOf(record.thinking)));
    const by = record.by === "mentor" ? "The mentor" : "The intern";
    wrote.append(make("details", { className: "thinking" }, withText("summary", `${by}’s thinking`), thought));
  }
  if (known(record.text)) {
    const by = { mentor: "by the mentor", intern: "by the intern" }[record.by];
    const about = [by, meaning(letter)].filter(Boolean).join(", ");
    wrote.append(block("Answer", about, make("div", { className: "text" }, ...longText(textOf(record.text)))));
  }
  if (record.trace) {
    beside.append(block("Decisions", "", make("ol", { className: "ladder" }, ...record.trace.map(rung))));
  }
  const units = Object.keys(UNITS).filter((name) => known(record.cost[name]));
  const costs = units.map((name) => [UNITS[name].name, amount(record.cost[name], name)]);
  costs.push(["Intern tokens", interns(record.cost)]);
  beside.append(block("Cost", "", make("dl", { className: "lines" }, ...pairs(costs))));
  return make("div", { className: "solution" }, wrote, beside);
}

function interns({ intern_tokens: all, probe_tokens: probes }) {
  return count(all) + (probes ? `, ${count(probes)} in discarded drafts` : "");
}

function block(name, small, content) {
  const title = make("h4", { className: "title" }, name, small ? make("small", { textContent: small }) : "");
  return make("section", { className: `block ${name.toLowerCase()}` }, title, content);
}

function rung([level, action, sufficiency, threshold, calibrated, reason, tokens]) {
  const insight = tokens ? counted(tokens, "token") : "no insight";
  return make(
    "li",
    { className: `rung ${Object.hasOwn(ACTIONS, action) ? action : ""}` },
    make("div", { className: "at" }, withText("strong", level ?? "?"), make("small", { textContent: insight })),
    known(sufficiency) ? gauge(sufficiency, threshold) : make("small", { textContent: "not predicted from a draft" }),
    make(
      "div",
      { className: "fate" },
      withText("b", ACTIONS[action] || action || "?", { className: "badge" }),
      withText("span", [reason, calibrated ? "" : "uncalibrated"].filter(Boolean).join("; ")),
    ),
  );
}

function gauge(sufficiency, threshold) {
  const within = (value) => `${100 * Math.min(1, Math.max(0, value))}%`;
  const needed = known(threshold) ? ` of ${threshold.toFixed(2)} needed` : "";
  const told = `${sufficiency.toFixed(2)}${needed}`;
  const track = make("span", { className: "track", role: "img", "aria-label": `sufficiency ${told}` });
  const fill = make("span", { className: known(threshold) && sufficiency < threshold ? "fill short" : "fill" });
  fill.style.width = within(sufficiency);
  track.append(fill);
  if (known(threshold)) {
    const tick = make("span", { className: "tick" });
    tick.style.left = within(threshold);
    track.append(tick);
  }
  return make("div", { className: "gauge" }, track, make("span", { className: "told", "aria-hidden": "true", textContent: told }));
}
