// OpenAI's JavaScript client, told what to do.

import OpenAI, { APIError } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { obey, tell } from "./commands.mjs";

const [baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });

/** Answers with what a call came to, or with what it threw. */
const outcome = (call) => async (given) => {
  try {
    return await call(given);
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const { message, status, code, type, param } = error;
    return { error: { class: error.constructor.name, message, status, code, type, param } };
  }
};

let stream;

obey({
  // A whole answer; with `schema`, by the parse helper.
  create: outcome(async ({ schema, ...body }) => {
    if (!schema) return client.chat.completions.create(body);
    const shape = z.object(Object.fromEntries(schema.map((name) => [name, z.string()])));
    const answer = await client.chat.completions.parse({ ...body, response_format: zodResponseFormat(shape, "answer") });
    return answer.choices[0].message.parsed;
  }),
  // A stream: what came until its end or its error.
  stream: outcome(async (body) => {
    const chunks = [];
    try {
      for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) chunks.push(chunk);
    } catch (error) {
      if (!(error instanceof APIError)) throw error;
      const { message, status, code, type } = error;
      return { chunks, error: { class: error.constructor.name, message, status, code, type } };
    }
    return { chunks };
  }),
  // The helper that puts a stream together.
  helper: outcome(async (body) => {
    const texts = [];
    const runner = client.chat.completions.stream(body).on("content", (text) => texts.push(text));
    return { texts, final: await runner.finalChatCompletion() };
  }),
  // Tools that the client itself calls, until the model is content.
  tools: outcome(async ({ result, ...body }) => {
    const called = [];
    const run = (given) => {
      called.push(given);
      return result;
    };
    const tools = body.tools.map(({ function: described }) => ({
      type: "function",
      function: { ...described, parse: JSON.parse, function: run },
    }));
    const runner = client.chat.completions.runTools({ ...body, tools });
    return { called, text: await runner.finalContent() };
  }),
  // A stream that is begun and left to `leave`.
  begin: outcome(async (body) => {
    stream = await client.chat.completions.create({ ...body, stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) return chunk;
  }),
  complete: outcome((body) => client.completions.create(body)),
  embed: outcome(async (body) => (await client.embeddings.create(body)).data.map((row) => row.embedding)),
  models: outcome(async () => (await client.models.list()).data.map((model) => model.id)),
  model: outcome(({ id }) => client.models.retrieve(id)),
});
tell("ready");
