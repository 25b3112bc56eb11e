// The conversations: listed, searched, renamed, deleted, exported.

import { conversations } from "./api.js";
import { composing, el, iconButton, show } from "./dom.js";
import { save } from "./exporting.js";
import { label, t } from "./i18n.js";
import { running } from "./keepers.js";
import { toggleMenu } from "./menu.js";
import { toast } from "./toast.js";

const PAGE = 50;
const PAUSE = 150; // milliseconds without a key before it is searched

export class Sidebar {
  #list = document.getElementById("conversations");
  #search = document.getElementById("search");
  #more = document.getElementById("more");
  #none = document.getElementById("no-conversations");
  #entries = [];
  #deleted = new Map(); // id → what makes it final; it may still be undone
  #current = null;
  #asked = 0;
  #timer = 0;

  /** @param {object} acts `open(id)`, `deleted(id)`, `renamed(id, title)`, `trouble(error)` */
  constructor(acts) {
    this.#acts = acts;
    this.#search.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.refresh(), PAUSE);
    });
    this.#search.addEventListener("keydown", (event) => this.#searchPressed(event));
    this.#more.addEventListener("click", () => this.#load(this.#entries.at(-1)?.updated));
    window.addEventListener("pagehide", () => {
      for (const finish of [...this.#deleted.values()]) finish();
    });
  }

  #acts;

  /** Reads the list again. */
  refresh() {
    return this.#load();
  }

  /** Marks the conversation that is shown. */
  mark(id) {
    this.#current = id;
    this.#paint();
  }

  titleOf(id) {
    return this.#entries.find((entry) => entry.id === id)?.title ?? "";
  }

  focusSearch() {
    this.#search.focus();
    this.#search.select();
  }

  /** Those with runs under way have changed, or the language. */
  update() {
    this.#paint();
  }

  async #load(before) {
    const number = ++this.#asked;
    const q = this.#search.value.trim();
    const query = { limit: PAGE, ...(q && { q }), ...(before && { before }) };
    try {
      const { conversations: found } = await conversations.list(query);
      if (number !== this.#asked) return; // another search has begun
      this.#entries = before ? [...this.#entries, ...found] : found;
      show(this.#more, found.length === PAGE);
      this.#paint();
    } catch (error) {
      this.#acts.trouble(error);
    }
  }

  #paint() {
    const active = running();
    const shown = this.#entries.filter(({ id }) => !this.#deleted.has(id));
    const focused = document.activeElement?.closest?.("#conversations [data-focus]");
    if (this.#list.querySelector(".rename")) return; // somebody is writing there
    const items = [];
    let group = "";
    for (const entry of shown) {
      const of = this.#search.value.trim() ? "" : dayOf(entry.updated);
      if (of && of !== group) items.push(el("li", { class: "day", role: "presentation" }, el("h2", { say: of })));
      group = of;
      items.push(this.#item(entry, active.has(entry.id)));
    }
    this.#list.replaceChildren(...items);
    show(this.#none, shown.length === 0);
    if (focused) this.#list.querySelector(`[data-focus="${CSS.escape(focused.dataset.focus)}"]`)?.focus();
  }

  #item(entry, isRunning) {
    const title = entry.title || t("untitled");
    const link = el("a", {
      class: "conversation",
      href: `/c/${encodeURIComponent(entry.id)}`,
      "data-focus": `link ${entry.id}`,
      "aria-current": entry.id === this.#current ? "page" : null,
      on: { click: (event) => this.#clicked(event, entry.id) },
    });
    link.append(el("span", { class: "conversation-title", text: title, dir: "auto" }));
    if (isRunning) link.append(el("span", { class: "running-mark" }, el("span", { class: "unseen", say: "running" })));
    if (entry.snippet) link.append(snippet(entry.snippet, this.#search.value.trim()));
    const more = iconButton("more", "conversation_menu", () => this.#menu(more, entry), {
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      "data-focus": `menu ${entry.id}`,
    });
    label(more, "conversation_menu", { title });
    return el("li", { class: "conversation-item", "data-id": entry.id }, link, more);
  }

  #clicked(event, id) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return; // a tab of its own
    event.preventDefault();
    this.#acts.open(id);
  }

  #menu(button, entry) {
    toggleMenu(button, [
      { key: "rename", symbol: "edit", act: () => this.#rename(entry) },
      { key: "export_markdown", symbol: "save", act: () => this.#export(entry, "md") },
      { key: "export_json", symbol: "save", act: () => this.#export(entry, "json") },
      { key: "delete", symbol: "delete", act: () => this.#delete(entry) },
    ]);
  }

  #export(entry, format) {
    save(entry.id, format).catch((error) => this.#acts.trouble(error));
  }

  #rename(entry) {
    const item = this.#list.querySelector(`[data-id="${CSS.escape(entry.id)}"]`);
    const props = { class: "rename", type: "text", label: "new_title", maxlength: "200", value: entry.title };
    const field = el("input", props);
    let over = false;
    const end = (title) => {
      if (over) return;
      over = true;
      const focused = field === document.activeElement;
      field.remove();
      if (title && title !== entry.title) this.#renamed(entry, title);
      this.#paint();
      if (focused) this.#list.querySelector(`[data-focus="menu ${CSS.escape(entry.id)}"]`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (composing(event)) return;
      if (event.key === "Enter") {
        event.preventDefault(); // else it would press what gets the focus
        end(field.value.trim());
      }
      if (event.key === "Escape") {
        event.stopPropagation();
        end("");
      }
    });
    field.addEventListener("blur", () => end(field.value.trim()));
    item.replaceChildren(field);
    field.focus();
    field.select();
  }

  async #renamed(entry, title) {
    const before = entry.title;
    entry.title = title;
    this.#acts.renamed(entry.id, title);
    try {
      await conversations.update(entry.id, { title });
    } catch (error) {
      entry.title = before;
      this.#acts.renamed(entry.id, before);
      this.#acts.trouble(error);
      this.#paint();
    }
  }

  /** It goes from the list at once, and from the server when nobody wants it back. */
  #delete(entry) {
    const finish = () => {
      if (this.#deleted.get(entry.id) !== finish) return;
      conversations.remove(entry.id, { keepalive: true }).catch((error) => {
        this.#deleted.delete(entry.id);
        if (error.status !== 404) this.#acts.trouble(error);
        this.refresh();
      });
    };
    this.#deleted.set(entry.id, finish);
    this.#paint();
    this.#acts.deleted(entry.id);
    const undo = () => {
      this.#deleted.delete(entry.id);
      this.#paint();
    };
    toast(t("deleted", { title: entry.title || t("untitled") }), { action: t("undo"), act: undo, gone: finish });
  }

  #searchPressed(event) {
    if (composing(event)) return;
    if (event.key === "Escape" && this.#search.value) {
      event.stopPropagation();
      this.#search.value = "";
      this.refresh();
    } else if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      this.#list.querySelector("a")?.focus();
    }
  }
}

function snippet(text, q) {
  const line = el("span", { class: "snippet", dir: "auto" });
  const at = text.toLocaleLowerCase().indexOf(q.toLocaleLowerCase());
  if (q === "" || at < 0) line.textContent = text;
  else line.append(text.slice(0, at), el("mark", { text: text.slice(at, at + q.length) }), text.slice(at + q.length));
  return line;
}

function dayOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const days = Math.ceil((midnight - new Date(time)) / 86_400_000);
  if (days <= 0) return "today";
  if (days === 1) return "yesterday";
  return days <= 7 ? "this_week" : "earlier";
}
