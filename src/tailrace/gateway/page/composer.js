// Where questions are written. Sends, or stops what is being written.

import { composing, icon, show } from "./dom.js";
import { label, say } from "./i18n.js";
import { sends } from "./keys.js";
import { drafts } from "./prefs.js";

const KEYBOARD = matchMedia("(hover: hover)");

export class Composer {
  #form = document.getElementById("composer");
  #area = document.getElementById("question");
  #button = document.getElementById("send");
  #hint = document.getElementById("composer-hint");
  #running = false;
  #conversation = null;

  /** @param {object} acts `ask(text)` → whether it was taken, `stop()`, `editLast()` */
  constructor(acts) {
    this.#acts = acts;
    this.#area.addEventListener("input", () => this.#edited());
    this.#area.addEventListener("keydown", (event) => this.#pressed(event));
    this.#button.addEventListener("click", () => (this.#running ? acts.stop() : this.#send()));
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    // A press beside the text is meant for the text.
    this.#form.addEventListener("click", (event) => event.target === this.#form && this.focus());
    window.addEventListener("resize", () => this.#fit());
  }

  #acts;

  /** Shows another conversation's draft. */
  open(conversation) {
    this.#conversation = conversation;
    this.#area.value = drafts.get(conversation);
    this.#edited();
  }

  /** The new conversation got its id. */
  rename(conversation) {
    drafts.set(this.#conversation, "");
    this.#conversation = conversation;
    drafts.set(conversation, this.#area.value);
  }

  /** @param {{running: boolean, stopping: boolean}} state of the answer that is shown */
  update({ running, stopping }) {
    const before = this.#running;
    this.#running = running;
    if (before !== running || !this.#button.hasChildNodes()) {
      this.#button.replaceChildren(icon(running ? "stop" : "send"));
      this.#button.classList.toggle("stop", running);
    }
    label(this.#button, running ? "stop" : "send");
    this.#button.setAttribute("aria-disabled", String(running ? stopping : this.#area.value.trim() === ""));
    show(this.#hint, running && (stopping || KEYBOARD.matches));
    say(this.#hint, stopping ? "stopping" : "stop_hint");
  }

  focus() {
    this.#area.focus();
  }

  get text() {
    return this.#area.value;
  }

  /** Puts a text there that could not be sent, unless something else has been begun. */
  restore(text) {
    if (this.#area.value === "") this.#area.value = text;
    this.#edited();
  }

  async #send() {
    const text = this.#area.value.trim();
    if (text === "" || this.#running) return;
    this.#area.value = "";
    this.#edited();
    if (!(await this.#acts.ask(text))) this.restore(text);
  }

  #pressed(event) {
    if (composing(event)) return; // this Enter belongs to the input method
    if (sends(event)) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "ArrowUp" && this.#area.value === "" && this.#acts.editLast()) {
      event.preventDefault();
    }
  }

  #edited() {
    this.#fit();
    drafts.set(this.#conversation, this.#area.value);
    if (!this.#running) this.#button.setAttribute("aria-disabled", String(this.#area.value.trim() === ""));
  }

  #fit() {
    this.#area.style.height = "auto";
    this.#area.style.height = `${this.#area.scrollHeight}px`;
  }
}
