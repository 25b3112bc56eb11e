// A menu at a button: arrows move in it, Escape and a press elsewhere close it.

import { el, icon } from "./dom.js";

let open = null;

/**
 * Opens a menu below a button.
 * @param {HTMLElement} button
 * @param {{key: string, symbol: string, act: () => void}[]} entries
 */
function openMenu(button, entries) {
  open?.close(false);
  const items = entries.map((entry) => item(entry));
  const menu = el("div", { class: "menu", role: "menu", popover: "manual" }, ...items);
  const close = (back = true) => {
    open = null;
    menu.remove();
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    if (back) button.focus();
  };
  const outside = ({ target }) => menu.contains(target) || button.contains(target) || close(false);
  menu.addEventListener("click", () => close(!document.activeElement || menu.contains(document.activeElement)), true);
  menu.addEventListener("keydown", (event) => pressed(event, items, close));
  document.addEventListener("pointerdown", outside, true);
  document.body.append(menu);
  menu.showPopover();
  place(menu, button);
  button.setAttribute("aria-expanded", "true");
  open = { button, close };
  items[0].focus();
}

/** Opens it, or closes it if it is open at this button. */
export function toggleMenu(button, entries) {
  if (open?.button === button) open.close();
  else openMenu(button, entries);
}

function item({ key, symbol, act }) {
  const props = { type: "button", class: "menu-item", role: "menuitem", tabindex: "-1", "data-does": key };
  // After the menu has closed and given the focus back, so that what opens next can take it.
  const click = () => queueMicrotask(act);
  return el("button", { ...props, on: { click } }, icon(symbol), el("span", { say: key }));
}

function place(menu, button) {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = at.bottom + 4 + height <= window.innerHeight;
  menu.style.left = `${Math.max(8, Math.min(at.right - width, window.innerWidth - width - 8))}px`;
  menu.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - height - 4)}px`;
}

function pressed(event, items, close) {
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    items.at(to % items.length).focus();
  } else if (event.key === "Escape" || event.key === "Tab") {
    event.preventDefault();
    event.stopPropagation();
    close();
  }
}
