// A question: its text, its versions, and the means to change it.

import { Branches } from "./branches.js";
import { composing, el, icon, iconButton, show } from "./dom.js";
import { sends } from "./keys.js";

export class QuestionView {
  /** @param {object} acts `edit(message, text)`, `copy(button, text)`, `version(id, direction)` */
  constructor(message, acts) {
    this.message = message;
    this.#acts = acts;
    this.branches = new Branches(acts.version);
    this.#text = el("div", { class: "asked", dir: "auto" });
    this.#foot = el(
      "div",
      { class: "foot" },
      iconButton("edit", "edit_question", () => this.edit(), { "data-does": "edit" }),
      iconButton("copy", "copy_question", (event) => acts.copy(event.currentTarget, this.message.content)),
      this.branches.element,
    );
    this.element = el(
      "article",
      { class: "message question" },
      el("h2", { class: "unseen", say: "question" }),
      this.#text,
      this.#foot,
    );
  }

  #acts;
  #text;
  #foot;
  #editor = null;

  update(message, siblings) {
    this.message = message;
    this.element.dataset.id = message.id;
    if (this.#text.textContent !== message.content) this.#text.textContent = message.content;
    this.branches.update(message, siblings);
    show(this.#foot, !message.pending && this.#editor === null);
  }

  close() {}

  /** Opens the editor; what is sent from it becomes another version. */
  edit() {
    if (this.#editor !== null || this.message.pending) return;
    const area = el("textarea", { class: "editor-text", label: "edit_question", rows: 1, dir: "auto" });
    area.value = this.message.content;
    const fit = () => {
      area.style.height = "auto";
      area.style.height = `${area.scrollHeight}px`;
    };
    const send = () => {
      const text = area.value.trim();
      if (!text) return;
      this.#close();
      this.#acts.edit(this.message, text);
    };
    area.addEventListener("input", fit);
    area.addEventListener("keydown", (event) => {
      if (composing(event)) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        this.#close();
      } else if (sends(event)) {
        event.preventDefault();
        send();
      }
    });
    const cancel = { type: "button", class: "button", say: "cancel", on: { click: () => this.#close() } };
    const primary = { type: "button", class: "button primary", on: { click: send } };
    const foot = el(
      "div",
      { class: "editor-foot" },
      el("button", cancel),
      el("button", primary, icon("send"), el("span", { say: "send" })),
    );
    this.#editor = el("div", { class: "editor" }, area, foot);
    this.#text.hidden = true;
    this.#foot.hidden = true;
    this.#text.after(this.#editor);
    fit();
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }

  #close() {
    const inside = this.#editor.contains(document.activeElement);
    this.#editor.remove();
    this.#editor = null;
    this.#text.hidden = false;
    this.#foot.hidden = false;
    if (inside) this.#foot.querySelector("[data-does=edit]").focus();
  }
}
