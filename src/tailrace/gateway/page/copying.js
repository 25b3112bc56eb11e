// What the copy buttons do, and how they say that it is done.

import { announceCopy } from "./announce.js";
import { runs } from "./api.js";
import { copy } from "./clipboard.js";
import { codeOf } from "./html.js";
import { say, t } from "./i18n.js";
import { toast } from "./toast.js";

const SHOWN = 2_000;

/** Copies a text, and shows at the button whether that worked. */
export async function copyText(button, text) {
  const done = await copy(text);
  announceCopy(done);
  if (!done) return toast(t("not_copied"));
  const use = button.querySelector("use");
  button.classList.add("done");
  if (use) use.setAttribute("href", "#icon-check");
  else say(button, "copied");
  setTimeout(() => {
    button.classList.remove("done");
    if (use) use.setAttribute("href", "#icon-copy");
    else say(button, "copy_code");
  }, SHOWN);
}

/** Copies an answer as Markdown; of one under way, what there is. */
export async function copyAnswer(button, message) {
  let text = message.content;
  if (message.run) {
    try {
      const { reply } = await runs.get(message.run);
      text = (message.base ?? "") + reply.text;
    } catch {
      // then what was kept of it
    }
  }
  await copyText(button, text);
}

/** Has the copy buttons of code work, wherever they are in an element. */
export function copyCode(within) {
  within.addEventListener("click", ({ target }) => {
    const button = target.closest?.(".copy-code");
    if (button) copyText(button, codeOf(button));
  });
}
