// The HTML of kept texts, made by the server, in a few requests.

import { call } from "./api.js";
import { el } from "./dom.js";

const MOST = 200_000; // characters in one request: the first texts are not to wait for all
const LONGEST = 500_000; // characters that the server makes HTML of; a longer text is shown as it is

/** Gives messages their HTML (`message.html`), the last ones first; `done` is called after each request. */
export async function render(messages, done) {
  const lacking = messages.filter((message) => message.role === "assistant" && message.htmlOf !== message.content);
  const wanted = lacking.filter(({ content }) => content.length <= LONGEST);
  for (const message of lacking) if (!wanted.includes(message)) give(message, message.content, plain(message.content));
  if (wanted.length < lacking.length) done();
  while (wanted.length > 0) {
    const some = [];
    let size = 0;
    do {
      some.push(wanted.pop());
      size += some.at(-1).content.length;
    } while (wanted.length > 0 && size + wanted.at(-1).content.length <= MOST);
    const texts = some.map(({ content }) => content);
    const { html } = await call("POST", "/render", { texts });
    for (const [place, message] of some.entries()) give(message, texts[place], html[place]);
    done();
  }
}

function give(message, text, html) {
  message.html = html;
  message.htmlOf = text;
}

function plain(text) {
  return el("pre", {}, el("code", { text })).outerHTML;
}
