// The server's HTML, put into the document so that what is there already and equal stays what it is.

import { el } from "./dom.js";

/** Returns HTML that our server made of Markdown as nodes, each piece of code with its name and its copy button. */
export function nodes(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const pre of template.content.querySelectorAll("pre:not(.joined)")) pre.prepend(codeHead(pre));
  return [...template.content.childNodes];
}

function codeHead(pre) {
  const known = pre.querySelector("code")?.className.match(/^language-(.+)/)?.[1] ?? "";
  return el(
    "span",
    { class: "code-head" },
    el("span", { class: "code-name", text: known }),
    el("button", { type: "button", class: "copy-code", say: "copy_code" }),
  );
}

/** The text of a piece of code whose copy button that is, with what its later pieces add. */
export function codeOf(button) {
  const pre = button.closest("pre");
  let text = pre.querySelector("code").textContent;
  for (let next = pre.nextElementSibling; next?.matches("pre.joined"); next = next.nextElementSibling) {
    text += next.querySelector("code").textContent;
  }
  return text;
}

/**
 * Makes the children of an element, from the one at `from` on, be like `fresh`, changing as little as can be.
 * Those behind stay, unless `all` is true. Returns the place behind the last one.
 */
export function morph(parent, from, fresh, all) {
  let old = parent.childNodes[from] ?? null;
  for (const wanted of fresh) {
    const next = old?.nextSibling ?? null;
    if (old === null) parent.append(wanted);
    else if (!old.isEqualNode(wanted)) become(old, wanted);
    old = next;
  }
  while (all && old !== null) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
  return from + fresh.length;
}

function become(old, wanted) {
  if (old.nodeName !== wanted.nodeName) {
    old.replaceWith(wanted);
  } else if (old.nodeType === Node.TEXT_NODE) {
    retext(old, wanted.data);
  } else if (old.matches("button")) {
    return; // ours: it may be saying "copied"
  } else {
    for (const { name } of [...old.attributes]) if (!wanted.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of wanted.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morph(old, 0, [...wanted.childNodes], true);
  }
}

function retext(text, wanted) {
  const before = text.data;
  if (before === wanted) return;
  if (wanted.startsWith(before)) text.appendData(wanted.slice(before.length)); // a selection in it survives
  else text.data = wanted;
}
