// What is said of a run, in sentences.

import { counted } from "./dom.js";

/** Return the answer that a grader would read, where it is short enough to be shown by itself; else "". */
export function shortAnswer(run) {
  const answer = run.solution && typeof run.solution.answer === "string" ? run.solution.answer.trim() : "";
  return answer.length > 60 || answer.includes("\n") ? "" : answer;
}

/** Whether the mentor ended by itself with levels left: then there was nothing more to buy. */
export function saidAll(run) {
  const last = run.decisions.at(-1);
  return (
    Boolean(last) && last.reason === "no later level" && run.ladder.length > 0 && run.ladder.at(-1).name !== last.level
  );
}

const NEWS = { stop: "the mentor stops.", go_on: "not enough…", answer: "the mentor answers…" };
const REASONS = {
  sufficient: "the intern’s draft was sufficient",
  "no later level": "this was the last level",
  "no later level is worth its cost": "no later level is worth its cost",
};

/** Return, in a sentence, how an answer came about or how far it has come. */
export function verdict(run) {
  if (run.state === "stopped") return "Stopped before its end.";
  if (run.state === "failed") return "It failed before its end.";
  const last = run.decisions.at(-1);
  const by = run.solution && run.solution.answered_by;
  if (last && last.action === "stop") {
    const why = saidAll(run) ? "it had nothing to add" : REASONS[last.reason] || last.reason;
    if (last.level === "question") return "The mentor was not needed: the question alone was enough to decide.";
    if (!last.insight_tokens) {
      return last.reason === "sufficient"
        ? "The mentor was not needed: the intern’s draft was sufficient without insight."
        : `The mentor was not asked: ${why}.`;
    }
    return `The mentor stopped at ${last.level}, after ${counted(last.insight_tokens, "token")}: ${why}.`;
  }
  if (last && (last.action === "answer" || by === "mentor")) {
    const tried = last.insight_tokens
      ? `The insight up to ${last.level} was not enough`
      : last.level === "question"
        ? "The question alone was enough to decide"
        : "A draft without insight was not enough";
    return `${tried}: the mentor ${run.state === "done" ? "answered" : "answers"} itself.`;
  }
  if (last) return `Not yet enough at ${last.level}; the mentor goes on.`;
  if (by === "mentor") return "The mentor answered alone.";
  if (by === "intern" && run.solution.level === "none") return "The intern answered alone.";
  if (by === "intern") return `The intern answered under the insight of level ${run.solution.level}; its sufficiency was not predicted.`;
  return { insight: "The mentor is writing.", answering: "The answer is being written." }[run.state] || "";
}

/** Return what a screen reader is told now: a few words for each stage, never tokens. */
export function stage(run) {
  const last = run.decisions.at(-1);
  const level = last ? `Level ${last.level}: ` : "";
  switch (run.state) {
    case "asking":
      return "Asking…";
    case "insight":
      return last ? `${level}not enough, the mentor goes on…` : "The mentor writes its insight…";
    case "judged":
      return level + (NEWS[last.action] || last.action);
    case "answering":
      return last && last.action === "stop"
        ? `The mentor stopped at ${last.level}; the intern writes…`
        : "The answer is being written…";
    case "done":
      return shortAnswer(run) ? `Done. The answer: ${shortAnswer(run)}` : "Done.";
    default:
      return { stopped: "Stopped.", failed: "It failed." }[run.state] || "";
  }
}
