// The two selects: which model, and how far up the ladder.

import { byId, make } from "./dom.js";
import { climbs, efforts, ladderOf } from "./run.js";

let models = [];
let about = null;

/** Offer the models of /v1/models; the efforts follow from the ladder in /v1/tandem. */
export function offer(found, described) {
  models = found;
  about = described;
  const groups = { Tandem: [], "One model alone": [], "Other methods": [] };
  for (const model of models) {
    const alone = ["intern", "mentor"].includes(model.id);
    groups[alone ? "One model alone" : climbs(model) ? "Tandem" : "Other methods"].push(model.id);
  }
  const options = (ids) => ids.map((id) => make("option", { value: id, textContent: id }));
  const shown = Object.entries(groups).filter(([, ids]) => ids.length);
  byId("model").replaceChildren(...shown.map(([label, ids]) => make("optgroup", { label }, ...options(ids))));
  byId("model").disabled = false;
  if (models.length) byId("model").value = models[0].id;
  offerEfforts();
}

/** Offer what fits the chosen model. */
export function offerEfforts() {
  const model = chosen();
  const ladder = model && climbs(model);
  const choices = ladder ? efforts(ladderOf(about, model, ""), model.id.includes(":")) : [["", "no ladder to climb"]];
  byId("effort").replaceChildren(...choices.map(([value, text]) => make("option", { value, textContent: text })));
  byId("effort").disabled = choices.length < 2;
}

/** Return the model that is chosen, as the server describes it; undefined before there are any. */
export const chosen = () => models.find((model) => model.id === byId("model").value);

/** Return the effort that is chosen, as the API takes it. */
export const chosenEffort = () => (byId("effort").disabled ? "" : byId("effort").value);

/** Choose what a run was asked with, where that is still on offer. */
export function choose(run) {
  if (models.some((model) => model.id === run.model)) byId("model").value = run.model;
  offerEfforts();
  if ([...byId("effort").options].some((option) => option.value === run.effort)) byId("effort").value = run.effort;
}
