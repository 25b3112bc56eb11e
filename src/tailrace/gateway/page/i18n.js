// The page's words, in the reader's language, from words/en.json and words/zh.json beside this file.

import { prefs } from "./prefs.js";

const AGAIN = 1_000;

let words = {};

// The language in use, as an HTML `lang`.
let language = "en";

/** Fetches the words of the language that was chosen, or else the browser's. */
export async function load() {
  const chosen = prefs.get("language");
  const short = chosen === "auto" ? preferred() : chosen;
  words = await wordsOf(short);
  language = short === "zh" ? "zh-CN" : "en";
  document.documentElement.lang = language;
  translate(document.body);
}

/** There is no page without words, so a server that has just gone is waited for. */
async function wordsOf(short) {
  for (;;) {
    try {
      const response = await fetch(`/words/${short}.json`);
      if (response.ok) return await response.json();
    } catch {
      // again
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

function preferred() {
  const known = navigator.languages.find((name) => /^(zh|en)\b/i.test(name)) ?? "en";
  return known.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Returns the words of a key, with `values` filled in. */
export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Gives an element its text. It gets it anew when the language changes. */
export function say(element, key, values) {
  remember(element, "t", key, values);
  const text = t(key, values);
  if (element.textContent !== text) element.textContent = text;
}

/** Gives a control its name, for screen readers and as a tooltip. */
export function label(element, key, values) {
  remember(element, "tLabel", key, values);
  const text = t(key, values);
  if (element.getAttribute("aria-label") === text) return;
  element.setAttribute("aria-label", text);
  if (element.matches("button, a")) element.title = text;
}

/** Puts the words of the language wherever there are words of ours. */
function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t, valuesOf(element, "t"));
  }
  for (const element of root.querySelectorAll("[data-t-label]")) {
    label(element, element.dataset.tLabel, valuesOf(element, "tLabel"));
  }
  for (const element of root.querySelectorAll("[data-t-placeholder]")) {
    element.placeholder = t(element.dataset.tPlaceholder);
  }
}

function remember(element, name, key, values) {
  if (element.dataset[name] !== key) element.dataset[name] = key;
  if (values) element.dataset[`${name}Values`] = JSON.stringify(values);
  else delete element.dataset[`${name}Values`];
}

function valuesOf(element, name) {
  const kept = element.dataset[`${name}Values`];
  return kept ? JSON.parse(kept) : undefined;
}

/** A number with so many digits behind its point. */
export function number(value, digits = 0) {
  const digital = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, digital).format(value);
}
