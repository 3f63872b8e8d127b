// The same question side by side: with insight, by the intern alone and by the mentor alone.

import { bar, unitOf } from "./cost.js";
import { byId, make, seconds, setText, tokens } from "./dom.js";
import { running } from "./run.js";
import { drawFinal, drawText } from "./view.js";

const NAMES = { intern: "Intern alone", mentor: "Mentor alone" };

/** Return the models that a comparison with `run` still has to ask; `usual` is the server's first model. */
export function missing(run, usual) {
  const wanted = [run.model in NAMES ? usual : run.model, "intern", "mentor"];
  return wanted.filter((model) => model !== run.model && !finished(run.alone[model]));
}

const finished = (run) => Boolean(run) && run.state === "done";

/** Show the cards of a comparison, if there is one, else the offer to make one. */
export function drawCompare(run, busy) {
  const others = Object.values(run.alone);
  byId("comparison").hidden = run.state !== "done";
  byId("compare-offer").hidden = run.state !== "done" || (others.length > 1 && others.every(finished)) || busy;
  const cards = byId("cards");
  cards.hidden = !others.length;
  const shown = others.length ? inOrder([run, ...others]) : [];
  const ids = shown.map((one) => one.id).join();
  if (cards.dataset.ids !== ids) {
    cards.dataset.ids = ids;
    cards.replaceChildren(...shown.map(card));
  }
  const costs = shown.map((one) => one.usage && one.usage.tandem).filter(Boolean);
  shown.forEach((one, place) => fill(cards.children[place], one, costs));
}

function inOrder(runs) {
  const rank = (run) => ["intern", "mentor"].indexOf(run.model); // the method itself first
  return runs.sort((one, other) => rank(one) - rank(other));
}

const roleOf = (run) => (run.model in NAMES ? run.model : "both");

function card(run) {
  const title = NAMES[run.model] || `With insight (${run.model})`;
  return make(
    "section",
    { className: `card ${roleOf(run)}`, "aria-label": title },
    make("h3", { textContent: title }),
    make("p", { className: "final", hidden: true }),
    make("div", { className: "text" }),
    make("div", { className: "price" }),
    make("p", { className: "hint" }),
  );
}

function fill(element, run, costs) {
  drawFinal(element.querySelector(".final"), run);
  drawText(element.querySelector(".text"), run);
  const own = run.usage && run.usage.tandem;
  const sign = JSON.stringify([own, costs.length]);
  const price = element.querySelector(".price");
  if (own && price.dataset.sign !== sign) {
    price.dataset.sign = sign;
    const unit = unitOf(...costs);
    const most = Math.max(...costs.map((cost) => cost[unit] || 0));
    price.replaceChildren(bar("Cost", own[unit], most, unit, roleOf(run)), figures(own));
  }
  const failed = run.error ? run.error.message : "";
  const words = { asking: "waiting…", stopped: "Stopped.", failed: `Failed: ${failed}` }[run.state];
  setText(element.querySelector(".hint"), words || (running(run) ? "writing…" : ""));
}

function figures(own) {
  const { mentor = {}, intern = {} } = own;
  const rows = [
    ["Mentor tokens", tokens(mentor.completion)],
    ["Intern tokens", tokens(intern.answer)],
    ["Probe tokens", tokens(intern.probe)],
    ["Time", seconds(own.seconds)],
  ];
  return make(
    "dl",
    {},
    ...rows.map(([name, value]) =>
      make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value })),
    ),
  );
}
