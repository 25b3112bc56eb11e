// A server that wants a key: it is asked for once, and kept in this browser.

import { access } from "./access.js";
import { onLocked } from "./api.js";
import { show } from "./dom.js";
import { prefs } from "./prefs.js";
import { tellKey } from "./runs.js";

const dialog = document.getElementById("lock");
const field = document.getElementById("key");
const wrong = document.getElementById("wrong-key");

/** Uses the key of before, and asks for one when the server wants it; `opened` is called when there is another one. */
export function watchLock(opened) {
  access.key = prefs.get("key");
  onLocked(() => {
    if (dialog.open) return;
    show(wrong, access.key !== "");
    field.value = "";
    dialog.showModal();
  });
  const enter = (event) => {
    event.preventDefault();
    if (!field.value.trim()) return;
    access.key = field.value.trim();
    prefs.set("key", access.key);
    tellKey();
    dialog.close();
    opened();
  };
  document.getElementById("lock-form").addEventListener("submit", enter);
}
