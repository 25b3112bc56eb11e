// Keys that work wherever the focus is.

import { composing } from "./dom.js";

/** @param {object} acts `stop` → whether there was something to stop, `search`, `create`, `help`, `closeDrawer` → whether it was open */
export function listen(acts) {
  document.addEventListener("keydown", (event) => {
    if (composing(event)) return;
    const control = event.ctrlKey || event.metaKey;
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
      if (acts.closeDrawer() || acts.stop()) event.preventDefault();
      return;
    }
    const act = control && !event.altKey ? shortcut(event, acts) : undefined;
    if (act === undefined) return;
    event.preventDefault();
    act();
  });
}

function shortcut({ code, key, shiftKey }, { search, create, help }) {
  if (!shiftKey && key.toLowerCase() === "k") return search;
  if (shiftKey && key.toLowerCase() === "o") return create;
  if (code === "Slash" || key === "/") return help;
  return undefined;
}
