// Elements in few words.

import { label, say } from "./i18n.js";

/**
 * Makes an element.
 * @param {string} tag
 * @param {object} props `class`, `text`; `say` and `label`: keys of words; `on`: listeners; all else: attributes
 */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "say") say(element, value);
    else if (name === "label") label(element, value);
    else if (name === "on") for (const event of Object.keys(value)) element.addEventListener(event, value[event]);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the symbols in index.html. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon; `name` is the key of what it does. */
export function iconButton(symbol, name, click, props = {}) {
  return el("button", { type: "button", class: "icon-button", label: name, on: { click }, ...props }, icon(symbol));
}

/** Whether a key belongs to an input method that is composing, where Enter and Escape are its own. */
export function composing(event) {
  return event.isComposing || event.keyCode === 229;
}

/** Shows or hides an element, and touches it only if that changes something. */
export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}
