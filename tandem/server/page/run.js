// One question as it is answered: plain data, so that it can be kept and shown again. Chunks go in by `take`.

import { counted } from "./dom.js";

export const SECTIONS = ["goal", "planning", "retrieval", "action"];

/** Return a run of which nothing is known yet. `ladder` are the levels that it may visit, `ladders` those by kind. */
export function newRun({ question, model, effort = "", ladder = [], ladders = {} }) {
  return {
    id: crypto.randomUUID ? crypto.randomUUID() : `${Date.now()}-${Math.random()}`, // http beyond localhost has none
    when: Date.now(),
    question,
    model,
    effort,
    ladder,
    ladders,
    state: "asking", // asking, insight, judged, answering, done, stopped, failed
    sections: {},
    decisions: [],
    thinking: "", // of the model that answers
    answer: "",
    solution: null,
    usage: null,
    error: null,
    alone: {}, // runs of the same question for a comparison, by model
  };
}

/** Return the body that asks a run's question. */
export function bodyOf(run) {
  return {
    model: run.model,
    messages: [{ role: "user", content: run.question }],
    stream: true,
    stream_options: { include_usage: true },
    tandem: { events: true, ...(run.effort ? { effort: run.effort } : {}) },
  };
}

/** Take up one chunk of the stream. */
export function take(run, chunk) {
  const told = chunk.tandem || {};
  const delta = (chunk.choices && chunk.choices[0] && chunk.choices[0].delta) || {};
  if (told.type === "thinking") {
    run.state = "answering";
    run.thinking += delta.reasoning_content;
  } else if (delta.reasoning_content) {
    run.state = "insight";
    grow(run.sections, SECTIONS.includes(told.section) ? told.section : "other", delta.reasoning_content, told.level);
  }
  if (told.type === "decision") {
    run.state = "judged";
    run.decisions.push(told);
    run.ladder = (run.ladders || {})[told.kind] || run.ladder;
  }
  if (delta.content) {
    run.state = "answering";
    run.answer += delta.content;
  }
  if (told.type === "solution") run.solution = told;
  if (chunk.usage) run.usage = chunk.usage;
}

function grow(sections, name, text, level) {
  const section = (sections[name] ||= { text: "", levels: [] });
  section.text += text;
  if (level && text.trim() && !section.levels.includes(level)) section.levels.push(level);
}

export const running = (run) => ["asking", "insight", "judged", "answering"].includes(run.state);

/** Return the levels that `model` may visit under `effort`; none for a model that climbs no ladder. */
export function ladderOf(about, model, effort) {
  if (!climbs(model)) return [];
  const ladder = effort ? parse(effort) : about.ladder;
  const cap = model.id.split(":")[1];
  const top = cap && [...about.ladder, ...ladder].find((level) => level.name === cap);
  return top ? ladder.filter((level) => level.tokens !== null && level.tokens <= top.tokens) : ladder;
}

/** Return the ladders by the kind of task that a decision names; none where `model` or `effort` sets one for all. */
export function laddersOf(about, model, effort) {
  return climbs(model) && !effort && !model.id.includes(":") ? about.ladders || {} : {};
}

/** Whether a model, as /v1/models describes it, goes up a ladder. */
export const climbs = (model) => ["tandem", "published"].includes(model.tandem && model.tandem.strategy);

const format = (levels) => levels.map((l) => (l.tokens ? `${l.name}=${l.tokens}` : l.name)).join(",");

function parse(effort) {
  return effort.split(",").map((part) => {
    const [name, number] = part.split("=");
    return { name, tokens: name === "answer" ? null : Number(number || 0) };
  });
}

/** Return the choices of effort: [what the API takes, what a reader sees]; `capped`: the model's name has the top. */
export function efforts(ladder, capped) {
  const last = ladder.at(-1);
  const choices = [["", last ? `whole ladder, to ${last.name}` : "the whole ladder"]];
  ladder.slice(0, -1).forEach((level, place) => {
    const bought = level.tokens ? `${counted(level.tokens, "mentor token")}` : "no insight";
    choices.push([format(ladder.slice(0, place + 1)), `up to ${level.name}: ${bought}`]);
  });
  if (last && last.name !== "answer" && !capped) {
    choices.push([format([...ladder, { name: "answer", tokens: null }]), "to the mentor’s own answer"]);
  }
  return choices;
}
