// Making elements. Whatever comes from the data goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Return an element; `props` are properties, or attributes where the name has a dash; children are texts or nodes. */
export function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return an SVG element; all `attributes` are attributes. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Return a text of the data in an element that finds its own direction. */
export function withText(tag, text, props = {}) {
  return make(tag, { dir: "auto", ...props, textContent: text });
}

/** Return a list of names and values; pairs without a value are left out. */
export function pairs(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return known.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", {}, value)));
}

/** Return a long text, which the report may have cut in its middle: `[beginning, characters cut, end]`. */
export function longText(text) {
  if (!Array.isArray(text)) return rich(text);
  const [head, cut, tail] = text;
  const note = `${cut.toLocaleString("en")} characters are cut here; records.jsonl has them`;
  return [...rich(head), make("p", { className: "cut", textContent: note }), ...(tail ? rich(tail) : [])];
}

/** Return a short text in one piece, with a mark where it was cut. */
export function shortText(text) {
  return Array.isArray(text) ? `${text[0]}…` : text;
}

function rich(text) {
  const parts = text.split(/^[ \t]*```[^\n]*\n?/m);
  return parts.map((part, place) => {
    if (place % 2 === 0) return part.trim() ? withText("p", part.trim()) : "";
    return make("pre", { textContent: part.trimEnd(), tabIndex: 0, role: "region", "aria-label": "code" });
  });
}
