// What a model thinks before it answers: open while it thinks, folded when the answer starts, unless somebody chose.

import { el, icon, show } from "./dom.js";
import { say } from "./i18n.js";
import { seconds } from "./stats.js";

const WORTH_TELLING = 1; // seconds: what was read from the start again came in no time

export class Thinking {
  constructor() {
    this.#title = el("span", { class: "thinking-title" });
    this.#text = el("div", { class: "thought", dir: "auto" });
    const summary = el("summary", {}, icon("right"), this.#title);
    // Keys come as clicks too. What the page does itself does not.
    summary.addEventListener("click", () => (this.#chosen = true));
    this.element = el("details", { class: "thinking" }, summary, this.#text);
    this.element.hidden = true;
  }

  #title;
  #text;
  #chosen = false;

  /** @param {{text: string, going: boolean, took: number}} what `took`: seconds, 0 where that is not known */
  update({ text, going, took }) {
    show(this.element, text !== "");
    if (text === "") return;
    this.#write(text);
    if (going) say(this.#title, "thinking");
    else if (took >= WORTH_TELLING) say(this.#title, "thought_for", { seconds: seconds(took) });
    else say(this.#title, "thought");
    if (!this.#chosen && this.element.open !== going) this.element.open = going;
  }

  #write(text) {
    const node = this.#text.firstChild ?? this.#text.appendChild(new Text());
    if (node.data === text) return;
    if (text.startsWith(node.data)) node.appendData(text.slice(node.length));
    else node.data = text;
  }
}
