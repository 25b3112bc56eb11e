// The branch that is shown: a view for each message, kept as long as the message is on it.

import { AnswerView } from "./answer.js";
import { show } from "./dom.js";
import { QuestionView } from "./question.js";

export class Thread {
  #views = new Map(); // message id → view
  #column = document.getElementById("messages");
  #log = document.getElementById("log");
  #welcome = document.getElementById("welcome");

  /** @param {object} acts what messages can be asked to do, see the views */
  constructor(acts) {
    this.#acts = acts;
  }

  #acts;

  /** Shows the branch of a tree. */
  show(tree) {
    const messages = tree.branch;
    const wanted = new Set(messages.map(({ id }) => id));
    for (const [id, view] of this.#views) if (!wanted.has(id)) this.#drop(id, view);
    let before = null;
    for (const message of messages) {
      const view = this.#view(message);
      const place = before === null ? this.#column.firstChild : before.nextSibling;
      if (view.element !== place) this.#column.insertBefore(view.element, place);
      view.update(message, tree.siblings(message));
      before = view.element;
    }
    show(this.#welcome, messages.length === 0);
    this.#log.setAttribute("aria-busy", String(messages.some(({ state }) => state === "running")));
  }

  /** A message got its id from the server. */
  rename(old, id) {
    const view = this.#views.get(old);
    if (view === undefined) return;
    this.#views.delete(old);
    this.#views.set(id, view);
  }

  view(id) {
    return this.#views.get(id);
  }

  /** The messages that cannot be shown before the server has made HTML of them. */
  get lacking() {
    return [...this.#views.values()].filter((view) => view.lacksHtml).map(({ message }) => message);
  }

  #view(message) {
    let view = this.#views.get(message.id);
    if (view === undefined) {
      view = message.role === "user" ? new QuestionView(message, this.#acts) : new AnswerView(message, this.#acts);
      this.#views.set(message.id, view);
    }
    return view;
  }

  #drop(id, view) {
    view.close();
    view.element.remove();
    this.#views.delete(id);
  }
}
