// What went wrong, as the server says it: OpenAI's message, type, field and code.

import { byId, make } from "./dom.js";

/** Show an error; with `retry` there is a button that does it again. */
export function showError(error, retry) {
  const what = error.status ? `The server refused this (${error.status})` : "Something went wrong";
  const box = make(
    "div",
    { className: "error" },
    make("strong", { textContent: error.status === 200 ? "The answer broke off" : what }),
  );
  box.append(make("p", { textContent: error.message }));
  const details = [
    error.kind,
    error.param && `field ${error.param}`,
    error.code && `code ${error.code}`,
    error.retryAfter && `try again in ${error.retryAfter} s`,
  ];
  const told = details.filter(Boolean).join(" · ");
  if (told) box.append(make("p", { className: "hint", textContent: told }));
  if (retry) {
    const again = make("button", { type: "button", textContent: "Try again" });
    again.addEventListener("click", retry);
    box.append(again);
  }
  byId("problem").replaceChildren(box);
  box.scrollIntoView({ block: "nearest" });
}

/** Take the error away. */
export const pardon = () => byId("problem").replaceChildren();
