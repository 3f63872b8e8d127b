// Light or dark: as the system says, until the button says otherwise. A browser that keeps nothing for files forgets it.

import { byId } from "./dom.js";

const KEY = "tandem-report-theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");

function kept() {
  try {
    return window.localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(theme) {
  try {
    window.localStorage.setItem(KEY, theme);
  } catch {
    // it holds until the page is closed
  }
}

/** Let the button change the theme. */
export function startTheme() {
  const root = document.documentElement;
  const button = byId("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use the ${dark() ? "light" : "dark"} theme`);
  };
  if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep(root.dataset.theme);
    name();
  });
  system.addEventListener("change", name);
  name();
}
