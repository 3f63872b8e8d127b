// Figures as people read them. What is not known is a dash.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const even = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });

export const known = (number) => typeof number === "number" && Number.isFinite(number);

/** Return a count. */
export const count = (number) => (known(number) ? whole.format(number) : "–");
export const counted = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** Return a share in per cent. */
export const share = (number, places = 1) => (known(number) ? `${(100 * number).toFixed(places)} %` : "–");

/** Return a difference of shares in points, with its sign. */
export function points(number) {
  if (!known(number)) return "–";
  const text = (100 * Math.abs(number)).toFixed(1);
  return text === "0.0" ? "0.0" : `${number < 0 ? "−" : "+"}${text}`;
}

/** Return a ratio. */
export const ratio = (number) => (known(number) ? number.toFixed(2).replace("-", "−") : "–");

/** Return a number to three digits at most. */
export const figure = (number) => (known(number) ? short.format(number).replace("-", "−") : "–");

/** Return a cost, as it stands in a column of its unit. */
export function amount(number, unit) {
  if (unit === "mentor_tokens" || unit === "intern_tokens" || !known(number) || Math.abs(number) >= 1000) return count(number);
  return number === 0 ? "0" : even.format(number);
}

/** Return a probability as McNemar's, which may be very small. */
export function chance(p) {
  if (!known(p)) return "–";
  return p < 0.001 ? "< 0.001" : p.toFixed(p < 0.1 ? 3 : 2);
}

/** Return both ends of an interval; "" without one. */
export function ends(low, high, form) {
  return known(low) && known(high) ? `${form(low)} to ${form(high)}` : "";
}

/** Return the 95 % Wilson interval of `right` out of `n`. */
export function wilson(right, n) {
  const z = 1.959964;
  const p = right / n;
  const centre = (p + (z * z) / (2 * n)) / (1 + (z * z) / n);
  const half = (z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n))) / (1 + (z * z) / n);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** Return round numbers from `low` to `high`, about `wanted` of them, and the step between them. */
export function ticks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((times) => times * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(i * step || 0);
  return { found, step };
}
