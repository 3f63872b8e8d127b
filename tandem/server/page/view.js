// Showing a run: insight, ladder, answer, cost. Everything is drawn from the run, as often as it changes.

import { costOf } from "./cost.js";
import { byId, chance, counted, make, seconds, setRich, setText } from "./dom.js";
import { SECTIONS, running } from "./run.js";
import { saidAll, shortAnswer, verdict } from "./words.js";

const TITLES = {
  goal: "Goal",
  planning: "Planning",
  retrieval: "Retrieval",
  action: "Action",
  other: "Outside the four",
};
const HINTS = {
  goal: "what is asked",
  planning: "the steps, in order",
  retrieval: "the facts that matter",
  action: "each step, carried out",
  other: "words without a section",
};

/** Show a run; `about` is what /v1/tandem says. */
export function draw(run, about) {
  const article = byId("run");
  article.hidden = false;
  article.setAttribute("aria-busy", String(running(run)));
  article.dataset.state = run.state;
  byId("welcome").hidden = true;
  setText(byId("asked"), run.question);
  byId("asked").classList.toggle("long", run.question.length > 160 || run.question.includes("\n"));
  setText(
    byId("asked-how"),
    [run.model, run.effort && `effort up to ${run.ladder.at(-1).name}`, when(run)].filter(Boolean).join(" · "),
  );
  setText(byId("verdict"), verdict(run));
  byId("verdict").dataset.by = (run.solution && run.solution.answered_by) || "";
  drawSections(run);
  drawLadder(run, about);
  drawAnswer(run);
  once(byId("cost"), [run.id, run.state, run.usage], () => costOf(run));
}

const when = (run) => new Date(run.when).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Replace an element's children where what they are made of has changed. */
function once(element, made, build) {
  const sign = JSON.stringify(made);
  if (element.sign === sign) return;
  element.sign = sign;
  element.replaceChildren(...build());
}

function drawSections(run) {
  const shown = run.sections.other && run.sections.other.text.trim() ? [...SECTIONS, "other"] : SECTIONS;
  const list = byId("sections");
  once(list, shown, () => shown.map(section));
  for (const name of shown) {
    const { text = "", levels = [] } = run.sections[name] || {};
    const box = byId(`section-${name}`);
    const body = box.querySelector("p");
    box.classList.toggle("empty", !text.trim());
    setText(body, text.trim() || emptiness(run, name));
    setText(box.querySelector(".levels"), levels.length ? `at ${levels.join(", ")}` : "");
  }
}

function section(name) {
  const head = make("header", {}, make("h3", { textContent: TITLES[name] }), make("span", { className: "levels" }));
  return make("section", { id: `section-${name}`, className: "part", "aria-label": TITLES[name] }, head, make("p"));
}

function emptiness(run, name) {
  const open = ["asking", "insight", "judged"].includes(run.state) && (run.decisions.at(-1) || {}).action !== "stop";
  return open ? `${HINTS[name]}…` : "not requested";
}

function drawLadder(run, about) {
  const box = byId("ladder");
  const key = [run.id, run.state, run.decisions, run.solution, run.ladder];
  once(box, key, () => rungs(run).map((rung) => step(rung)));
  const judged = run.decisions.length > 0;
  const loose = run.decisions.some((decision) => decision.calibrated === false);
  const found = about && about.classifier ? about.classifier.match : "";
  const match = found.startsWith("uncalibrated: ") ? found.slice(14) : "another pair, ladder or temperature";
  const notes = [];
  if (!judged && run.state === "done") notes.push("No sufficiency is predicted here: this model climbs no ladder.");
  if (loose)
    notes.push(
      `Uncalibrated: the classifier was fitted to ${match}. Its figures rank drafts; they are no probabilities here.`,
    );
  setText(byId("climb-note"), notes.join(" "));
}

/** Return the levels with what became of each. */
function rungs(run) {
  const decided = new Map(run.decisions.map((decision) => [decision.level, decision]));
  const levels = [...run.ladder];
  for (const [name, decision] of decided) {
    if (!levels.some((level) => level.name === name)) levels.push({ name, tokens: decision.insight_tokens });
  }
  const reached = levels.findLastIndex((level) => decided.has(level.name));
  const last = run.decisions.at(-1);
  return levels.map((level, place) => {
    const decision = decided.get(level.name);
    if (decision) return { level, decision };
    if (place < reached) return { level, fate: "the mentor had nothing to add" };
    if (level.tokens === null && run.solution && run.solution.answered_by === "mentor") {
      return { level, fate: "The mentor wrote the answer", end: true };
    }
    if (["stopped", "failed"].includes(run.state)) return { level, fate: "not reached" };
    if (run.state === "done" || (last && last.action !== "go_on"))
      return { level, fate: saidAll(run) ? "the mentor had nothing to add" : "not needed" };
    return { level, fate: place === reached + 1 ? "now" : "" };
  });
}

const DOING = { question: "reading the question…" };
const DECIDED = {
  stop: ["■", "Stop", "the mentor stopped here"],
  go_on: ["↓", "Go on", "not enough yet"],
  answer: ["▲", "Mentor answers", "insight will not do"],
};

function step({ level, decision, fate, end }) {
  const bought = decision ? decision.insight_tokens : level.tokens;
  const words =
    level.tokens === null ? "the mentor’s own answer" : `${decision ? "" : "up to "}${counted(bought, "token")}`;
  const head = make(
    "div",
    { className: "rung" },
    make("h3", { textContent: level.name }),
    make("small", { textContent: words }),
  );
  if (!decision) {
    const now = fate === "now";
    const item = make("li", { className: end ? "end" : now ? "now" : "unvisited" }, head);
    if (fate)
      item.append(make("p", { className: "fate", textContent: now ? DOING[level.name] || "buying insight, reading a draft…" : fate }));
    return item;
  }
  const [sign, name, meaning] = DECIDED[decision.action] || ["", decision.action, ""];
  const remark = decision.action === "stop" && !decision.insight_tokens ? "no insight was requested" : meaning;
  const item = make("li", { className: decision.action }, head);
  if (typeof decision.sufficiency === "number") item.append(gauge(decision));
  const badge = make(
    "strong",
    { className: "badge" },
    make("span", { textContent: sign, "aria-hidden": "true" }),
    ` ${name}`,
  );
  item.append(make("p", { className: "fate" }, badge, ` ${remark}`));
  return item;
}

function gauge({ level, sufficiency, threshold }) {
  const bound = typeof threshold === "number";
  const places = bound && chance(sufficiency) === chance(threshold) ? 4 : 2; // 0.93 of 0.93 would tell nothing
  const told = chance(sufficiency, places) + (bound ? ` of ${chance(threshold, places)} needed` : "");
  const meter = make("meter", { min: 0, max: 1, value: sufficiency, textContent: told });
  meter.setAttribute("aria-label", `Sufficiency at level ${level}: ${told}`);
  const track = make("div", { className: "track" }, meter);
  if (bound) {
    const tick = make("span", { className: "tick", "aria-hidden": "true" });
    tick.style.left = `${100 * Math.min(Math.max(threshold, 0), 1)}%`;
    track.append(tick);
  }
  return make(
    "div",
    { className: bound && sufficiency < threshold ? "gauge short" : "gauge" },
    track,
    make("span", { className: "told", textContent: told }),
  );
}

function drawAnswer(run) {
  const solution = run.solution;
  byId("final").dataset.by = (solution && solution.answered_by) || "";
  byId("answered-by").className = (solution && solution.answered_by) || "";
  setText(
    byId("answered-by"),
    solution && solution.answered_by ? `by the ${solution.answered_by}, in ${seconds(solution.seconds)}` : "",
  );
  drawFinal(byId("final"), run);
  const thought = (run.thinking || "").trim();
  byId("thinking").hidden = !thought;
  setText(byId("thinking").querySelector("div"), thought);
  drawText(byId("answer"), run);
  setText(byId("answer-note"), solution && solution.truncated ? "Cut at the cap on its length." : "");
}

/** Show the answer itself, where it is short. */
export function drawFinal(element, run) {
  element.hidden = !shortAnswer(run);
  setText(element, shortAnswer(run));
}

/** Show a run's answer: as it grows, or finished. */
export function drawText(element, run) {
  const waiting =
    { stopped: "Nothing was written.", failed: "Nothing was written." }[run.state] || (running(run) ? "…" : "");
  element.classList.toggle("empty", !run.answer.trim());
  element.classList.toggle("writing", run.state === "answering");
  if (running(run) || !run.answer.trim()) setText(element, run.answer.trim() || waiting);
  else once(element, run.answer, () => rich(run.answer));
}

function rich(text) {
  const holder = make("div");
  setRich(holder, text);
  return [...holder.childNodes];
}
