// What a run's events come to. A plain value, so that it can be sent from the worker to a tab that comes late.

/** Returns a run of which nothing is known yet. */
export function nothing(run) {
  return {
    run,
    epoch: Math.random(), // another one when all was forgotten, or was read anew by somebody else
    number: 0, // of the last event in the run's log
    others: 0, // events among them that are no piece of an answer
    blocks: [], // finished HTML
    tail: null, // the open HTML behind it; null until the first comes
    thinking: "",
    thinkingFrom: 0, // when the thinking began and ended, by our clock
    thinkingTo: 0,
    calls: [],
    wait: null, // what the run waits for: {event, …}
    ended: null,
  };
}

/** Adds an event to the state; `now` is the time in milliseconds. */
export function fold(state, { event, data, id }, now) {
  if (event === "reset") {
    Object.assign(state, nothing(state.run));
    return;
  }
  const number = Number.parseInt(id, 10) || 0;
  state.number = Math.max(state.number, number);
  switch (event) {
    case "block":
      state.blocks.push(data);
      answering(state, now);
      break;
    case "tail":
      state.tail = data;
      answering(state, now);
      break;
    case "thinking_delta":
      state.thinking += JSON.parse(data).text;
      state.thinkingFrom ||= now;
      state.wait = null;
      break;
    case "tool_call":
      state.calls.push(JSON.parse(data));
      state.others += 1;
      answering(state, now);
      break;
    case "queued":
    case "loading":
    case "prefill":
      state.wait = { event, ...JSON.parse(data) };
      state.others += 1;
      break;
    case "ended":
      state.ended = JSON.parse(data);
      state.others += 1;
      answering(state, now);
      break;
  }
}

/** Pieces of the answer and of its thinking so far, which are about as many tokens. */
export function pieces(state) {
  return Math.max(0, state.number - state.others);
}

function answering(state, now) {
  state.wait = null;
  if (state.thinkingFrom && !state.thinkingTo) state.thinkingTo = now;
}
