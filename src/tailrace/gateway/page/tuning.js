// How a conversation's answers are made: the model, and what it is told to keep to.

import { el } from "./dom.js";
import { panel } from "./panels.js";

const NUMBERS = ["temperature", "top_p", "num_ctx", "num_predict", "seed"]; // Ollama's names, and our fields

export class Tuning {
  #system = document.getElementById("system");
  #think = document.getElementById("think");
  #reset = document.getElementById("tuning-reset");
  #settings = () => ({});

  /** @param {object} acts `settings()` that count, and `set(values)` to change them */
  constructor(acts) {
    this.open = panel("tuning", () => this.#show(acts.settings()));
    this.#settings = acts.settings;
    this.#system.addEventListener("change", () => acts.set({ system: this.#system.value.trim() || null }));
    this.#think.addEventListener("change", () => acts.set({ think: thinkOf(this.#think.value) }));
    const changed = () => acts.set({ options: this.#options() });
    for (const name of NUMBERS) this.#field(name).addEventListener("change", changed);
    this.#reset.addEventListener("click", () => {
      acts.set({ system: null, options: {}, think: null });
      this.#show(acts.settings());
    });
  }

  open;

  #field(name) {
    return document.getElementById(name);
  }

  #show({ system, options = {}, think }) {
    this.#system.value = system ?? "";
    this.#think.value = think === null || think === undefined ? "" : String(think);
    for (const name of NUMBERS) this.#field(name).value = options[name] ?? "";
  }

  /** The options as the fields say, with those that have no field here. */
  #options() {
    const options = { ...this.#settings().options };
    for (const name of NUMBERS) {
      const field = this.#field(name);
      if (field.value === "") delete options[name];
      else if (field.validity.valid) options[name] = field.valueAsNumber;
    }
    return options;
  }
}

function thinkOf(value) {
  if (value === "") return null;
  return value === "true" || value === "false" ? value === "true" : value;
}

/** Fills the picker of models; the chosen one is in it even if the upstream has it no more. */
export function fillModels(picker, { models, default: usual }, chosen) {
  const names = models.map(({ name }) => name);
  const current = chosen || usual;
  if (current && !names.includes(current)) names.push(current);
  picker.replaceChildren(...names.map((name) => el("option", { value: name, text: name })));
  picker.value = current ?? "";
  picker.disabled = names.length === 0;
}
