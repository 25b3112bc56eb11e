// What a screen reader is told: never the tokens, but the answer when it is whole, or its sentences as they come.

import { t } from "./i18n.js";
import { prefs } from "./prefs.js";

const BETWEEN = 4_000; // milliseconds between two lots of sentences
const SENTENCES = /^[\s\S]*(?:[。！？；]|[.!?;:](?=\s)|\n)/;

const spoken = document.getElementById("spoken");

/** Says something once, when the reader has time. */
function announce(text) {
  spoken.append(Object.assign(document.createElement("p"), { textContent: text }));
  while (spoken.childElementCount > 20) spoken.firstChild.remove();
}

/** Tells one answer. */
export class Teller {
  #told = 0; // characters
  #last = 0;

  /** More of the answer is there: `text` returns all of it. */
  grown(text) {
    if (prefs.get("announce") !== "sentences" || performance.now() - this.#last < BETWEEN) return;
    const whole = SENTENCES.exec(text().slice(this.#told))?.[0] ?? "";
    this.#last = performance.now();
    if (!whole.trim()) return;
    this.#told += whole.length;
    announce(whole.trim());
  }

  /** It has ended; `ending` says how. */
  ended(text, ending) {
    const rest = prefs.get("announce") === "end" ? "" : text().slice(this.#told).trim();
    announce([rest, ending].filter(Boolean).join("\n"));
  }
}

/** Says that something was copied, or was not. */
export function announceCopy(done) {
  announce(done ? t("copied") : t("not_copied"));
}
