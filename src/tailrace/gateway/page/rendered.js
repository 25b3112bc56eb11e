// The HTML of kept texts, made by the server, in a few requests.

import { call } from "./api.js";

const MOST = 200_000; // characters in one request: the first texts are not to wait for all

/** Gives messages their HTML (`message.html`), the last ones first; `done` is called after each request. */
export async function render(messages, done) {
  const wanted = messages.filter((message) => message.role === "assistant" && message.htmlOf !== message.content);
  while (wanted.length > 0) {
    const some = [];
    let size = 0;
    do {
      some.push(wanted.pop());
      size += some.at(-1).content.length;
    } while (wanted.length > 0 && size + wanted.at(-1).content.length <= MOST);
    const texts = some.map(({ content }) => content);
    const { html } = await call("POST", "/render", { texts });
    for (const [place, message] of some.entries()) {
      message.html = html[place];
      message.htmlOf = texts[place];
    }
    done();
  }
}
