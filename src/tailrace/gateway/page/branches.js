// "‹ 2/3 ›": the versions of a question or an answer.

import { el, iconButton, show } from "./dom.js";
import { label, number } from "./i18n.js";

export class Branches {
  /** @param {(id: string, direction: string) => void} go shows another version */
  constructor(go) {
    const step = (by) => () => this.#others[by] && go(this.#others[by].id, by);
    this.#count = el("span", { class: "count" });
    this.#buttons = {
      previous: iconButton("left", "previous_version", step("previous"), { "data-step": "previous" }),
      next: iconButton("right", "next_version", step("next"), { "data-step": "next" }),
    };
    const { previous, next } = this.#buttons;
    this.element = el("div", { class: "branches", role: "group" }, previous, this.#count, next);
    this.element.hidden = true;
  }

  #count;
  #buttons;
  #others = {};

  update(message, siblings) {
    const place = siblings.findIndex(({ id }) => id === message.id);
    this.#others = { previous: siblings[place - 1], next: siblings[place + 1] };
    show(this.element, siblings.length > 1);
    const values = { number: number(place + 1), count: number(siblings.length) };
    this.#count.textContent = `${values.number}/${values.count}`;
    label(this.element, "version", values);
    for (const [by, button] of Object.entries(this.#buttons)) {
      button.setAttribute("aria-disabled", String(!this.#others[by])); // not `disabled`: that would lose the focus
    }
  }

  focus(direction) {
    this.#buttons[direction].focus({ preventScroll: true });
  }
}
