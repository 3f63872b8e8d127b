// What an answer cost, beside what the mentor alone would have cost.

import { UNITS, amount, known, make, seconds, tokens } from "./dom.js";

/** Return the first unit that every figure is known in: US$, device seconds, else TFLOPs. */
export function unitOf(...figures) {
  const inAll = (unit) => figures.every((figure) => figure && known(figure[unit]));
  return Object.keys(UNITS).find(inAll) || "tflops";
}

/** Return one bar: a cost against the dearest one that it is shown beside. */
export function bar(label, value, most, unit, role, estimate = "") {
  const text = (estimate && known(value) ? `${estimate} ` : "") + amount(value, unit);
  const gauge = make("meter", {
    min: 0,
    max: most || 1,
    value: known(value) ? value : 0,
    className: role,
    textContent: text,
  });
  gauge.setAttribute("aria-label", `${label}: ${text}`);
  return make(
    "div",
    { className: "bar" },
    make("span", { textContent: label }),
    make("b", { textContent: text }),
    gauge,
  );
}

/** Return a cost as a sentence beside the mentor's. */
function against(own, alone) {
  if (!known(own) || !known(alone) || alone <= 0) return null;
  const share = Math.round(100 * (own / alone - 1));
  if (share === 0) return "About what the mentor alone would cost.";
  return share < 0 ? `${-share} % less than the mentor alone.` : `${share} % more than the mentor alone.`;
}

/** Return the nodes that tell a run's cost. */
export function costOf(run) {
  const own = run.usage && run.usage.tandem;
  if (!own)
    return [make("p", { className: "hint", textContent: MISSING[run.state] || "Known when the answer is complete." })];
  const alone = own.mentor_alone || {};
  const unit = unitOf(own, alone);
  const most = Math.max(own[unit] || 0, alone[unit] || 0);
  const judged = run.decisions.at(-1);
  const ahead = judged && own.mentor ? own.mentor.insight - judged.insight_tokens : 0;
  const sentence = alone.bound ? null : against(own[unit], alone[unit]);
  const how = alone.bound ? "at most" : "about";
  return [
    bar("This answer", own[unit], most, unit, "both"),
    bar("The mentor alone", alone[unit], most, unit, "mentor", how),
    make("p", { className: "hint" }, sentence ? make("strong", { textContent: `${sentence} ` }) : null, basis(alone)),
    table(own, alone, unit),
    ahead > 0
      ? make("p", {
          className: "hint",
          textContent: `${tokens(ahead)} of the mentor’s tokens were written ahead and not used.`,
        })
      : null,
    unit !== "usd" && !known(own.usd)
      ? make("p", { className: "hint", textContent: `No price is known, so ${UNITS[unit]} are counted.` })
      : null,
  ].filter(Boolean);
}

function basis(alone) {
  if (!alone.bound) return `The mentor’s figure is an estimate, from ${alone.basis}.`;
  return `How long the mentor’s answers are is not known; its figure is the most possible: ${alone.basis}.`;
}

const MISSING = {
  stopped: "Not known: the server tells it at the end. What was written until then is paid all the same.",
  failed: "Not known: the server tells it at the end of an answer.",
};

function table(own, alone, unit) {
  const mentor = own.mentor || {};
  const intern = own.intern || {};
  const about = (text) => (text === "–" || text === "not known" ? text : `${alone.bound ? "≤" : "≈"} ${text}`);
  const rows = [
    ["Mentor tokens", tokens(mentor.completion), about(tokens(alone.tokens))],
    ["Intern tokens", tokens(intern.answer), "–"],
    ["Probe tokens", tokens(intern.probe), "–", "discarded drafts"],
    [UNITS[unit], bare(own[unit], unit), about(bare(alone[unit], unit))],
    ["Time", seconds(own.seconds), "–"],
  ];
  const head = ["", "This answer", "Mentor alone, estimate"].map((text) =>
    text ? make("th", { scope: "col", textContent: text }) : make("td"),
  );
  return make(
    "table",
    {},
    make("caption", { className: "unseen", textContent: "What this answer cost, and an estimate of the mentor alone" }),
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...rows.map(([name, ours, theirs, title]) => row(name, ours, theirs, title))),
  );
}

function row(name, ours, theirs, explained) {
  const label = make("th", { scope: "row", textContent: name });
  if (explained) label.append(make("small", { textContent: explained }));
  return make("tr", {}, label, make("td", { textContent: ours }), make("td", { textContent: theirs }));
}

const bare = (value, unit) => amount(value, unit).replace(`${UNITS[unit]} `, "").replace(` ${UNITS[unit]}`, "");
