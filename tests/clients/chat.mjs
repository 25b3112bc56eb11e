// A chat as `useChat` has it, without a page: the AI SDK's own Chat and DefaultChatTransport.

import { obey, tell } from "./commands.mjs";

const [library, api] = process.argv.slice(2);
const ai = await import(library);

class State {
  constructor(messages, changed) {
    this.messages = messages;
    this.changed = changed;
    this.status = "ready";
    this.error = undefined;
  }
  pushMessage = (message) => this.#put(this.messages.length, message);
  popMessage = () => this.#put(this.messages.length - 1);
  replaceMessage = (index, message) => this.#put(index, message);
  snapshot = (value) => structuredClone(value);

  #put(index, ...messages) {
    this.messages = [...this.messages.slice(0, index), ...messages, ...this.messages.slice(index + 1)];
    this.changed();
  }
}

class Chat extends ai.AbstractChat {
  constructor({ id, messages = [], body, tools = {}, automatic = false }) {
    const seen = { data: [], finished: [] };
    const waiting = new Set();
    const changed = () => waiting.forEach((look) => look());
    super({
      id,
      state: new State(messages, changed),
      transport: new ai.DefaultChatTransport({ api, body }),
      sendAutomaticallyWhen: automatic ? ai.lastAssistantMessageIsCompleteWithToolCalls : undefined,
      onData: (part) => seen.data.push(part),
      onToolCall: ({ toolCall }) => {
        if (!(toolCall.toolName in tools)) return;
        const { toolCallId, toolName } = toolCall;
        const add = this.addToolOutput ?? this.addToolResult;
        void add({ tool: toolName, toolCallId, output: tools[toolName] });
      },
      onFinish: (event) => seen.finished.push({ isAbort: event.isAbort, isError: event.isError }),
    });
    this.seen = seen;
    this.waiting = waiting;
  }

  /** Resolves as soon as something holds. */
  until(holds) {
    return new Promise((resolve) => {
      const look = () => {
        if (!holds()) return;
        this.waiting.delete(look);
        resolve();
      };
      this.waiting.add(look);
      look();
    });
  }
}

let chat;
const spoken = (message) => message.parts.map((part) => part.text ?? "").join("");
const shown = (chat) => ({
  messages: chat.messages,
  status: chat.status,
  error: chat.error?.message ?? null,
  ...chat.seen,
});

/** Answered when a request is over, with whatever came of it; the page may have another chat by then. */
const over = (request) => async (given) => {
  const asking = chat;
  await request(asking, given);
  return shown(asking);
};

obey({
  begin: (given) => {
    chat = new Chat(given);
    return shown(chat);
  },
  send: over((asking, message) => asking.sendMessage(message)),
  regenerate: over((asking) => asking.regenerate()),
  resume: over((asking) => asking.resumeStream()),
  stop: async () => {
    await chat.stop();
  },
  // Answered as soon as the assistant says this in the last message.
  until: async ({ text }) => {
    const asking = chat;
    await asking.until(() => {
      const last = asking.messages.at(-1);
      return last?.role === "assistant" && spoken(last).includes(text);
    });
    return shown(asking);
  },
  // Reads a recorded stream as the transport does; answers with its parts, the message that they come to, and errors.
  parse: async ({ stream: recorded }) => {
    const transport = new ai.DefaultChatTransport({ api, fetch: async () => new Response(recorded) });
    const stream = await transport.sendMessages({ chatId: "c", messages: [], trigger: "submit-message" });
    const [one, other] = stream.tee();
    const parts = [];
    const errors = [];
    let message = null;
    const reading = (async () => {
      for await (const part of one) parts.push(part);
    })();
    const onError = (error) => errors.push(error.message);
    for await (const next of ai.readUIMessageStream({ stream: other, onError })) message = next;
    await reading;
    return { parts, message, errors };
  },
});
tell("ready");
