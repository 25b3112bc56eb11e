// Keys that work wherever the focus is, and the one that sends.

import { composing } from "./dom.js";
import { prefs } from "./prefs.js";

/** Whether an Enter sends: as was chosen, and with Ctrl always. */
export function sends({ key, shiftKey, ctrlKey, metaKey, altKey }) {
  if (key !== "Enter") return false;
  return ctrlKey || metaKey || (prefs.get("enter") === "send" && !shiftKey && !altKey);
}

/**
 * @param {object} acts `search`, `create`, `help`; `stop` and `closeDrawer`, which return whether there was
 *   something to stop or to close
 */
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
