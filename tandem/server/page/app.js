// The page: what its controls do.

import { ApiError, chat, get, key, readiness } from "./api.js";
import { choose, chosen, chosenEffort, offer, offerEfforts } from "./choices.js";
import { drawCompare, missing } from "./compare.js";
import { byId, make } from "./dom.js";
import * as history from "./history.js";
import { bodyOf, ladderOf, laddersOf, newRun, take } from "./run.js";
import { pardon, showError } from "./problem.js";
import { draw } from "./view.js";
import { stage } from "./words.js";

// `usual` is the server's first model, `busy` the controller that stops what is running.
const state = { about: null, usual: null, run: null, busy: null, drawing: false };

/** Say something to everybody, screen readers too, once. */
function say(text) {
  const line = byId("status");
  if (line.textContent !== text) line.textContent = text;
}

/** Show the run when the browser next paints; many chunks may come before that. */
function show() {
  if (state.drawing || !state.run) return;
  state.drawing = true;
  requestAnimationFrame(() => {
    state.drawing = false;
    draw(state.run, state.about);
    drawCompare(state.run, Boolean(state.busy));
  });
}

function list() {
  history.drawHistory(state.run && state.run.id, open, remove);
}

function busy(controller) {
  state.busy = controller;
  byId("go").setAttribute("aria-disabled", String(Boolean(controller)));
  const stop = byId("stop");
  if (!controller && document.activeElement === stop) byId("question").focus();
  stop.disabled = !controller;
}

// Errors, and the key

function complain(error, retry) {
  showError(error, retry);
  if (error.status === 401) askForKey();
}

function askForKey() {
  key.forget();
  byId("key-panel").hidden = false;
  byId("key-form").hidden = false;
  byId("key-kept").hidden = true;
  byId("key").focus();
}

byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const given = byId("key").value.trim();
  if (!/^[\x21-\x7e]+$/.test(given)) {
    complain(new ApiError(0, { message: "a key has letters, digits and signs only, and no spaces" }));
    return;
  }
  key.set(given);
  byId("key").value = "";
  if (await begin()) byId("question").focus();
});

byId("forget").addEventListener("click", () => {
  askForKey();
  say("The key is forgotten.");
});

function showKey() {
  byId("key-panel").hidden = !key.get();
  byId("key-form").hidden = true;
  byId("key-kept").hidden = false;
}

// Asking

async function answer(run, signal) {
  try {
    for await (const chunk of chat(bodyOf(run), signal)) {
      take(run, chunk);
      say((run.model === state.run.model ? "" : `${run.model}: `) + stage(run));
      show();
    }
    run.state = "done";
  } catch (failure) {
    run.state = signal.aborted ? "stopped" : "failed";
    if (!signal.aborted) {
      const error = failure instanceof ApiError ? failure : new ApiError(0, { message: String(failure.message) });
      run.error = { message: error.message, status: error.status };
      complain(error);
    }
  }
  say(stage(run));
  show();
}

async function ask() {
  const question = byId("question").value;
  const model = chosen();
  if (state.busy || !model) return;
  if (!question.trim()) {
    say("Write a question first.");
    byId("question").focus();
    return;
  }
  pardon();
  const effort = chosenEffort();
  state.run = newRun({
    question: question.trim(),
    model: model.id,
    effort,
    ladder: ladderOf(state.about, model, effort),
    ladders: laddersOf(state.about, model, effort),
  });
  await work(async (signal) => answer(state.run, signal));
}

async function compare() {
  if (state.busy || !state.run) return;
  pardon();
  const run = state.run;
  await work(async (signal) => {
    for (const model of missing(run, state.usual)) {
      if (signal.aborted) return;
      run.alone[model] = newRun({ question: run.question, model });
      say(`Asking ${model}…`);
      show();
      await answer(run.alone[model], signal); // one after the other, so that their seconds can be compared
      if (run.alone[model].state === "failed") return;
    }
    say("The comparison is complete.");
  });
}

/** Do what Stop can stop; what came of it is kept. */
async function work(task) {
  const controller = new AbortController();
  busy(controller);
  say("Asking…");
  show();
  try {
    await task(controller.signal);
  } finally {
    busy(null);
    history.keep(state.run);
    list();
    show();
  }
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
byId("compare").addEventListener("click", () => {
  byId("compare-title").tabIndex = -1; // the button goes away; the keyboard stays here
  byId("compare-title").focus();
  compare();
});
byId("stop").addEventListener("click", () => state.busy && state.busy.abort());
byId("model").addEventListener("change", offerEfforts);
byId("examples").addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  byId("question").value = event.target.textContent.replace(/\s+/g, " ").trim();
  byId("question").focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.busy) state.busy.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    ask();
  }
});

// History

function open(run) {
  if (state.busy) {
    say("Stop the running question first.");
    return;
  }
  pardon();
  state.run = run;
  byId("question").value = run.question;
  choose(run);
  draw(run, state.about);
  drawCompare(run, false);
  list();
  byId("asked").tabIndex = -1;
  byId("asked").focus();
  say(`Opened: ${run.question.slice(0, 80)}`);
}

function remove(run) {
  const place = history.all().findIndex((one) => one.id === run.id);
  history.drop(run.id);
  list();
  const left = byId("history").querySelectorAll(".delete");
  (left[Math.min(place, left.length - 1)] || byId("question")).focus();
  say("Deleted.");
}

byId("clear").addEventListener("click", (event) => {
  const button = event.currentTarget;
  if (!button.dataset.sure) {
    button.dataset.sure = "asked";
    button.textContent = "Clear all, for good?";
    return;
  }
  history.clear();
  calm(button);
  list();
  byId("question").focus();
  say("Nothing is kept any more.");
});
byId("clear").addEventListener("blur", (event) => calm(event.currentTarget));

function calm(button) {
  delete button.dataset.sure;
  button.textContent = "Clear all";
}

// The beginning

async function begin() {
  let models;
  try {
    [state.about, models] = await Promise.all([get("/v1/tandem"), get("/v1/models")]);
    state.usual = models.data[0].id;
  } catch (error) {
    complain(error, error.status === 401 ? null : begin);
    return false;
  }
  pardon();
  showKey();
  byId("pair").replaceChildren(
    make("span", {}, make("b", { className: "mentor", textContent: "mentor" }), ` ${state.about.mentor.name}`),
    make("span", {}, make("b", { className: "intern", textContent: "intern" }), ` ${state.about.intern.name}`),
  );
  byId("synthetic").hidden = !state.about.synthetic;
  offer(models.data, state.about);
  ready();
  return true;
}

/** Wait until the models can answer, and say so while they cannot. */
async function ready() {
  for (let status = await readiness(); status === "starting" || status === "failed"; status = await readiness()) {
    say(
      status === "failed"
        ? "The models cannot be reached yet; the server tries again."
        : "The server makes its models ready…",
    );
    await new Promise((resolve) => setTimeout(resolve, 2000));
    if (state.busy) return;
  }
  if (!state.busy) say("Ready.");
}

list();
begin();
