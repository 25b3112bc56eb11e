// Short notices at the edge, with something to do about them.

import { el, iconButton } from "./dom.js";

const LASTS = 8_000;

const place = document.getElementById("toasts");

/**
 * Shows a notice.
 * @param {string} text
 * @param {{action?: string, act?: () => void, gone?: () => void}} more a button with the words `action`; `gone` is
 *   called when the notice goes without it
 */
export function toast(text, { action, act, gone } = {}) {
  const end = (what) => {
    clearTimeout(timer);
    if (!notice.isConnected) return;
    notice.remove();
    what?.();
  };
  const props = { type: "button", class: "text-button", text: action, on: { click: () => end(act) } };
  const button = action ? el("button", props) : null;
  const cross = iconButton("close", "dismiss", () => end(gone));
  const notice = el("div", { class: "toast" }, el("span", { text }), button, cross);
  let timer = setTimeout(() => end(gone), LASTS);
  // It waits for who is about to use it.
  const hold = () => clearTimeout(timer);
  const go = () => (timer = setTimeout(() => end(gone), LASTS));
  for (const event of ["focusin", "pointerenter"]) notice.addEventListener(event, hold);
  for (const event of ["focusout", "pointerleave"]) notice.addEventListener(event, go);
  place.append(notice);
}
