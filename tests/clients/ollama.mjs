// Ollama's JavaScript client, told what to do; `browser` takes the one that browsers get.

import { obey, tell } from "./commands.mjs";

const [host, kind] = process.argv.slice(2);
const { Ollama } = await import(kind === "browser" ? "ollama/browser" : "ollama");
const client = new Ollama({ host });

/** Answers with what a call came to, or with what it threw. */
const outcome = async (call) => {
  try {
    return await call();
  } catch (error) {
    const { name, message, status_code } = error;
    return { error: { name, message, status_code } };
  }
};

let stream;

obey({
  // Any method that answers once.
  call: ({ method, body }) => outcome(async () => (await client[method](body)) ?? {}),
  // A method that streams: what came until its end or its error.
  stream: ({ method, body }) =>
    outcome(async () => {
      const chunks = [];
      const failed = await outcome(async () => {
        for await (const chunk of await client[method]({ ...body, stream: true })) chunks.push(chunk);
      });
      return { chunks, ...failed };
    }),
  // A stream that is begun, and left to `abort`.
  begin: ({ method, body }) =>
    outcome(async () => {
      stream = await client[method]({ ...body, stream: true });
      return (await stream[Symbol.asyncIterator]().next()).value;
    }),
  abort: () => {
    stream.abort();
    return {};
  },
});
tell("ready");
