// The sidebar: beside the conversation where there is room, else a drawer over it.

import { show } from "./dom.js";
import { prefs } from "./prefs.js";

export class Drawer {
  #side = document.getElementById("sidebar");
  #main = document.getElementById("main");
  #veil = document.getElementById("veil");
  #button = document.getElementById("toggle-sidebar");
  #narrow = matchMedia("(max-width: 52rem)");
  #open = false; // over the conversation

  constructor() {
    this.#button.addEventListener("click", () => this.toggle());
    document.getElementById("close-sidebar").addEventListener("click", () => this.close());
    this.#veil.addEventListener("click", () => this.close());
    this.#narrow.addEventListener("change", () => this.#update());
    this.#update();
  }

  toggle() {
    if (this.#narrow.matches) return this.#open ? this.close() : this.open();
    prefs.set("sidebar", prefs.get("sidebar") === "open" ? "closed" : "open");
    return this.#update();
  }

  /** Shows it, for what is wanted of it. */
  open() {
    if (this.#narrow.matches) this.#open = true;
    else prefs.set("sidebar", "open");
    this.#update();
    if (this.#narrow.matches) document.getElementById("close-sidebar").focus();
  }

  /** Closes it if it lies over the conversation; returns whether it did. */
  close() {
    if (!this.#open) return false;
    this.#open = false;
    this.#update();
    this.#button.focus();
    return true;
  }

  #update() {
    if (!this.#narrow.matches) this.#open = false;
    const visible = this.#narrow.matches ? this.#open : prefs.get("sidebar") === "open";
    this.#side.classList.toggle("closed", !visible);
    this.#side.inert = !visible;
    this.#main.inert = this.#open;
    this.#button.setAttribute("aria-expanded", String(visible));
    show(this.#veil, this.#open);
  }
}
