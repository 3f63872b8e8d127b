// Questions asked before, with their answers: in this browser only, and never with the key.

import { byId, make } from "./dom.js";
import { shortAnswer } from "./words.js";

const PLACE = "tandem.history";
const MOST = 50;

/** Return the runs that are kept, the latest first. */
export function all() {
  try {
    const found = JSON.parse(localStorage.getItem(PLACE) || "[]");
    return Array.isArray(found) ? found.filter(sound) : [];
  } catch {
    return []; // somebody else's, or broken: as good as none
  }
}

const sound = (run) =>
  run &&
  typeof run.question === "string" &&
  typeof run.answer === "string" &&
  Array.isArray(run.decisions) &&
  Array.isArray(run.ladder) &&
  run.sections &&
  run.alone;

/** Keep a run, in place of what was kept of it; the oldest make room. */
export function keep(run) {
  store([run, ...all().filter((one) => one.id !== run.id)].slice(0, MOST));
}

/** Forget one run. */
export function drop(id) {
  store(all().filter((one) => one.id !== id));
}

/** Forget everything. */
export function clear() {
  localStorage.removeItem(PLACE);
}

function store(runs) {
  for (let kept = runs; kept.length; kept = kept.slice(0, -1)) {
    try {
      localStorage.setItem(PLACE, JSON.stringify(kept));
      return;
    } catch {
      // the browser gives no more room: once more without the oldest
    }
  }
  localStorage.removeItem(PLACE);
}

/** Show the list; `open` and `remove` are called with a run. */
export function drawHistory(current, open, remove) {
  const runs = all();
  byId("history-empty").hidden = runs.length > 0;
  byId("clear").hidden = runs.length === 0;
  byId("history").replaceChildren(...runs.map((run) => entry(run, run.id === current, open, remove)));
}

function entry(run, current, open, remove) {
  const answer = shortAnswer(run) ? ` → ${shortAnswer(run)}` : "";
  const line = make("button", { type: "button", className: "entry" }, make("span", { textContent: run.question }));
  line.append(
    make("small", { textContent: `${run.model}${answer || (run.state === "done" ? "" : ` · ${run.state}`)}` }),
  );
  if (current) line.setAttribute("aria-current", "true");
  line.addEventListener("click", () => open(run));
  const label = `Delete the question: ${run.question.slice(0, 80)}`;
  const button = make("button", { type: "button", className: "delete", textContent: "×", "aria-label": label });
  button.addEventListener("click", () => remove(run));
  return make("li", {}, line, button);
}
