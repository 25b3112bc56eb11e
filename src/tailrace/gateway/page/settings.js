// What the reader chooses for this browser: language, theme, keys, what is read out.

import { load } from "./i18n.js";
import { panel } from "./panels.js";
import { prefs } from "./prefs.js";

const NAMES = ["language", "theme", "enter", "announce"];
const FIELDS = Object.fromEntries(NAMES.map((name) => [`pref-${name}`, name]));

/** Returns what opens the settings; `translated` is called when the words are in another language. */
export function settings(translated) {
  for (const [id, name] of Object.entries(FIELDS)) {
    const field = document.getElementById(id);
    field.addEventListener("change", async () => {
      prefs.set(name, field.value);
      if (name === "theme") applyTheme();
      if (name !== "language") return;
      await load();
      translated();
    });
  }
  return panel("settings", () => {
    for (const [id, name] of Object.entries(FIELDS)) document.getElementById(id).value = prefs.get(name);
  });
}

/** From one theme to the other, whichever is shown. */
export function switchTheme() {
  const chosen = prefs.get("theme");
  const dark = chosen === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : chosen === "dark";
  prefs.set("theme", dark ? "light" : "dark");
  applyTheme();
}

function applyTheme() {
  const theme = prefs.get("theme");
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
