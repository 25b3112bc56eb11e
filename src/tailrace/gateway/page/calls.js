// The tools a model asked for, each with its arguments.

import { el, icon } from "./dom.js";

export class Calls {
  constructor() {
    this.element = el("div", { class: "calls" });
  }

  /** @param {object[]} list as events have them, or as messages do (under `function`) */
  update(list) {
    for (let place = this.element.childElementCount; place < list.length; place += 1) {
      this.element.append(shown(list[place].function ?? list[place]));
    }
    while (this.element.childElementCount > list.length) this.element.lastChild.remove();
  }
}

function shown({ name, arguments: values, invalid }) {
  const text = invalid ?? JSON.stringify(values ?? {}, null, 2);
  return el(
    "details",
    { class: "call" },
    el("summary", {}, icon("tool"), el("span", { say: "tool_call" }), el("code", { text: name })),
    el("pre", { tabindex: "0", label: "arguments" }, el("code", { text })),
  );
}
