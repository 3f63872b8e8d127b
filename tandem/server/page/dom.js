// Making and filling elements. Whatever comes from outside goes in as text, never as markup.

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

/** Show a text; what is there already and only grows is left alone, so that a reader's selection survives. */
export function setText(element, text) {
  const node = element.firstChild;
  const only = node && node.nodeType === Node.TEXT_NODE && element.childNodes.length === 1;
  if (only && node.data === text) return;
  if (only && node.data && text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else element.textContent = text;
}

/** Show a finished text, what is fenced as code in a fixed-width block of its own. */
export function setRich(element, text) {
  const parts = text.split(/^[ \t]*```[^\n]*\n?/m);
  if (parts.length < 2) {
    setText(element, text.trim());
    return;
  }
  const shown = parts.map((part, place) => {
    if (place % 2 === 0) return part.trim() ? make("p", { textContent: part.trim() }) : null;
    const props = { textContent: part.trimEnd(), tabIndex: 0, role: "region", "aria-label": "code" };
    return make("pre", props);
  });
  element.replaceChildren(...shown.filter(Boolean));
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const known = (number) => typeof number === "number" && Number.isFinite(number);
export const tokens = (number) => (known(number) ? whole.format(number) : "–");
/** Return a probability; none that is short of 0 or 1 is rounded to it. */
export function chance(number, places = 2) {
  if (number > 0.99 && number < 1) return ">\u20090.99";
  return number > 0 && number < 0.01 ? "<\u20090.01" : number.toFixed(places);
}

export const counted = (number, word) => `${tokens(number)} ${word}${number === 1 ? "" : "s"}`;
export const seconds = (number) => (known(number) ? `${number.toFixed(number < 10 ? 1 : 0)} s` : "–");

/** The units that costs are told in, by their names in a usage. */
export const UNITS = { usd: "US$", device_seconds: "device seconds", tflops: "TFLOPs" };

/** Return a cost in its unit, one of `UNITS`. */
export function amount(number, unit) {
  if (!known(number)) return "not known";
  return unit === "usd" ? `US$ ${short.format(number)}` : `${short.format(number)} ${UNITS[unit]}`;
}
