// The list of problems: searched, filtered, a page at a time; what a problem holds is made when it is opened.

import { report } from "./data.js";
import { byId, make, withText } from "./dom.js";
import { MARKS, markOf, meaning, openedProblem } from "./detail.js";
import { count, counted } from "./numbers.js";

const PAGE = 50;
const PATIENCE = 120; // milliseconds between a key and the search

const { ids, excerpts, marks } = report.problems;
const wanted = { text: "", group: "all", each: new Map() };
const seen = marks.map((all) => report.ran.map((one) => all[one.place]).join("")); // without those that were skipped
const letters = Object.entries(MARKS).filter(([letter]) => seen.some((all) => all.toLowerCase().includes(letter)));
let matches = [];
let first = 0;

const GROUPS = {
  all: { name: "every problem", holds: () => true },
  differ: { name: "where strategies differ", holds: (has) => has.includes("r") && has.includes("w") },
  right: { name: "all right", holds: (has) => has.includes("r") && !/[weu]/.test(has) },
  wrong: { name: "none right", holds: (has) => !has.includes("r") },
  failed: { name: "with a failure", holds: (has) => has.includes("e") },
  cut: { name: "with a cut answer", holds: (has, exact) => exact !== has },
};

/** Show the filters and the list. */
export function startProblems() {
  const form = byId("filters");
  if (!ids.length) {
    byId("matched").textContent = "There are no records yet.";
    form.hidden = true;
    return;
  }
  form.append(...controls());
  byId("problems").style.setProperty("--n", report.ran.length || 1);
  form.addEventListener("submit", (event) => event.preventDefault());
  if (report.ran.length > 1) byId("columns").append(...columnNames());
  byId("keys").append(
    ...letters.map(([letter, { name }]) => make("span", {}, markOf(letter), name)),
  );
  if (seen.some((all) => all !== all.toLowerCase())) {
    byId("keys").append(make("span", {}, markOf("R"), "with a corner: cut at the token cap"));
  }
  byId("list").addEventListener("click", (event) => {
    const button = event.target.closest("button.open");
    if (button) toggle(button);
  });
  filter();
}

function controls() {
  const search = make("input", { type: "search", id: "search", autocomplete: "off", spellcheck: false });
  search.placeholder = excerpts.some(Boolean) ? "id or words of the question" : "id";
  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      wanted.text = search.value.trim().toLowerCase();
      filter();
    }, PATIENCE);
  });
  const shows = Object.entries(GROUPS).filter(([name]) => report.ran.length > 1 || name !== "differ");
  const group = select("group", shows.map(([name, one]) => [name, one.name]), (value) => (wanted.group = value));
  const clear = make("button", { type: "button", id: "clear", className: "quiet", textContent: "Clear" });
  clear.addEventListener("click", () => {
    clearTimeout(timer);
    wanted.text = "";
    wanted.group = "all";
    wanted.each.clear();
    search.value = "";
    for (const one of byId("filters").querySelectorAll("select")) one.selectedIndex = 0;
    filter();
    search.focus();
  });
  const row = make("div", { className: "row" }, field("Search", search), field("Show", group), clear);
  return report.ran.length > 1 ? [row, byStrategy()] : [row];
}

function byStrategy() {
  const fields = report.ran.map((one) => {
    const choose = (value) => (value ? wanted.each.set(one.place, value) : wanted.each.delete(one.place));
    return field(one.name, select(`each-${one.place}`, [["", "any"], ...letters.map(([l, { name }]) => [l, name])], choose));
  });
  return make(
    "details",
    { className: "each" },
    make("summary", { textContent: "By strategy" }),
    make("div", { className: "fields" }, ...fields),
  );
}

function select(id, choices, choose) {
  const options = choices.map(([value, text]) => make("option", { value, textContent: text }));
  const element = make("select", { id }, ...options);
  element.addEventListener("change", () => {
    choose(element.value);
    filter();
  });
  return element;
}

function field(name, control) {
  return make("div", { className: "field" }, withText("label", name, { htmlFor: control.id }), control);
}

function columnNames() {
  const names = report.ran.map((one) => make("span", {}, withText("b", one.name)));
  return [make("span", { className: "marks" }, ...names)];
}

function filter() {
  const { holds } = GROUPS[wanted.group];
  const each = [...wanted.each];
  matches = [];
  for (let place = 0; place < ids.length; place += 1) {
    const exact = seen[place];
    const has = exact.toLowerCase();
    if (!holds(has, exact)) continue;
    if (!each.every(([one, letter]) => marks[place][one].toLowerCase() === letter)) continue;
    if (wanted.text && !`${ids[place]} ${excerpts[place]}`.toLowerCase().includes(wanted.text)) continue;
    matches.push(place);
  }
  byId("clear").disabled = !wanted.text && wanted.group === "all" && !each.length;
  show(0);
}

function show(from) {
  first = from;
  const last = Math.min(first + PAGE, matches.length);
  const all = matches.length === ids.length;
  const range = matches.length > PAGE ? `, ${count(first + 1)} to ${count(last)} shown` : "";
  byId("matched").textContent = all
    ? `${counted(ids.length, "problem")}${range}`
    : `${count(matches.length)} of ${counted(ids.length, "problem")}${range}`;
  byId("list").replaceChildren(...matches.slice(first, last).map(item));
  byId("columns").hidden = !matches.length || report.ran.length < 2;
  const pages = byId("pages");
  pages.hidden = matches.length <= PAGE;
  pages.replaceChildren(
    turn("previous", "Previous", Math.max(0, first - PAGE), first === 0),
    make("span", { textContent: `${count(first / PAGE + 1)} of ${count(Math.ceil(matches.length / PAGE))}` }),
    turn("next", "Next", first + PAGE, last >= matches.length),
  );
}

function turn(id, text, to, dead) {
  const button = make("button", { type: "button", className: "quiet", id, textContent: text, disabled: dead });
  button.addEventListener("click", () => {
    show(to);
    byId("problems-title").scrollIntoView();
    byId("problems-title").focus({ preventScroll: true });
  });
  return button;
}

function item(place) {
  const told = report.ran.map((one, at) => [`${one.name}: ${meaning(seen[place][at])}`, seen[place][at]]);
  const button = make(
    "button",
    { type: "button", className: "open", "aria-expanded": "false", value: place },
    withText("span", ids[place], { className: "id" }),
    withText("span", excerpts[place], { className: "excerpt" }),
  );
  const spokenAs = told.map(([text]) => text).join(", ");
  const row = make("span", { className: "marks", role: "img", "aria-label": spokenAs });
  row.append(...told.map(([title, letter]) => make("span", { title }, markOf(letter))));
  return make("li", {}, make("div", { className: "line" }, button, row));
}

function toggle(button) {
  const entry = button.closest("li");
  const open = button.getAttribute("aria-expanded") !== "true";
  button.setAttribute("aria-expanded", String(open));
  if (open) entry.append(openedProblem(Number(button.value)));
  else entry.lastElementChild.remove();
}
