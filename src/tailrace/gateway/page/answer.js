// An answer: kept, or under way. Under way it is painted once a frame; what is finished of it is never touched again.

import { Teller } from "./announce.js";
import { Branches } from "./branches.js";
import { Calls } from "./calls.js";
import { el, icon, iconButton, show } from "./dom.js";
import { nextFrame } from "./frames.js";
import { morph, nodes } from "./html.js";
import { number, say, t } from "./i18n.js";
import { follow } from "./runs.js";
import { line } from "./stats.js";
import { Thinking } from "./thinking.js";

const AT_ONCE = 8_000; // characters of finished text in one frame: a long answer is not laid out at once
const ENDINGS = {
  complete: "ended_complete",
  length: "ended_length",
  cancelled: "ended_cancelled",
  abandoned: "ended_abandoned",
  timed_out: "ended_timed_out",
  truncated: "ended_truncated",
  owner_lost: "ended_owner_lost",
  failed: "ended_failed",
};
const STOPPING = "server stopping"; // the reason of an ending that the gateway made
const TICK = 500; // milliseconds between two looks at the clock

export class AnswerView {
  /** @param {object} acts `regenerate`, `resume`, `copyAnswer`, `version`, `watch(run)` (its `Watch`) */
  constructor(message, acts) {
    this.message = message;
    this.#acts = acts;
    this.branches = new Branches(acts.version);
    this.#thinking = new Thinking();
    this.#calls = new Calls();
    this.#body = el("div", { class: "markdown", dir: "auto" });
    this.#wait = el("p", { class: "wait" }, el("span", { class: "drops", "aria-hidden": "true" }), el("span"));
    this.#note = el("div", { class: "note" });
    this.#model = el("span", { class: "model-name" });
    this.#figures = el("span", { class: "figures" });
    const copy = (event) => acts.copyAnswer(event.currentTarget, this.message);
    this.#again = iconButton("again", "regenerate", () => acts.regenerate(this.message), { "data-does": "regenerate" });
    this.#foot = el(
      "div",
      { class: "foot" },
      el("p", { class: "facts" }, this.#model, this.#figures),
      iconButton("copy", "copy_answer", copy, { "data-does": "copy" }),
      this.#again,
      this.branches.element,
    );
    this.element = el(
      "article",
      { class: "message answer" },
      el("span", { class: "flow", "aria-hidden": "true" }),
      el("h2", { class: "unseen", say: "answer" }),
      this.#thinking.element,
      this.#calls.element,
      this.#body,
      this.#wait,
      this.#note,
      this.#foot,
    );
  }

  #acts;
  #thinking;
  #calls;
  #body;
  #wait;
  #note;
  #model;
  #figures;
  #foot;
  #again;

  #run = null; // the run whose events are shown
  #finished = false; // all of them, to its end
  #read = false; // the server no longer keeps the run, and the message was read since
  #one = null; // what is known of it
  #leave = null;
  #clock = null;
  #teller = null;

  #epoch = 0;
  #taken = 0; // blocks of the run
  #queue = []; // their nodes, to be put in
  #place = 0; // finished nodes in the body
  #tail = null; // the open HTML behind them, as it is shown
  #shown = undefined; // the text whose HTML the body has, if it is known

  update(message, siblings) {
    this.message = message;
    this.element.dataset.id = message.id;
    this.branches.update(message, siblings);
    if (message.run && message.run !== this.#run) {
      this.#begin(message.run);
    } else if (this.#run !== null) {
      this.#read = this.#one.connection === "gone";
      if (!message.run) this.#settle();
    }
    nextFrame(this.#paint);
  }

  /** Whether the server has to make HTML of the message before it can be shown. */
  get lacksHtml() {
    const { content, htmlOf } = this.message;
    return this.#kept && content !== "" && content !== this.#shown && content !== htmlOf;
  }

  /** Whether the text comes from the message: there is no run, or the server no longer keeps what it said. */
  get #kept() {
    return this.#run === null || this.#read;
  }

  /** Nobody looks at it any more. */
  close() {
    this.#leave?.();
    this.#leave = null;
    clearInterval(this.#clock);
  }

  #begin(run) {
    this.close();
    this.#run = run;
    this.#finished = false;
    this.#read = false;
    this.#restart();
    this.#teller = new Teller();
    this.#leave = follow(run, (one) => {
      this.#one = one;
      nextFrame(this.#paint);
    });
    this.#clock = setInterval(() => document.hidden || nextFrame(this.#paint), TICK);
  }

  /** The message has all that the run brought; what is still on its way here, or being painted, comes first. */
  #settle() {
    if (!this.#finished && !this.#kept) return;
    this.close();
    this.#run = null;
    this.#one = null;
    this.#queue = [];
    this.#shown = this.#finished ? this.message.content : undefined; // else it may be any part of it
  }

  #restart() {
    this.#taken = 0;
    this.#queue = [];
    this.#place = 0; // what is there is replaced by what comes, node by node
    this.#tail = null;
    this.#shown = undefined;
  }

  #paint = () => {
    if (!this.element.isConnected) return;
    if (this.#kept) this.#paintKept();
    else if (!this.#finished) this.#paintStream();
    const going = this.#kept ? this.message.state === "running" : !this.#one.state.ended;
    this.element.classList.toggle("going", going);
    show(this.#foot, !this.message.pending);
    show(this.#again, !going);
    this.#paintNote(going);
  };

  #paintKept() {
    const { message } = this;
    const { content, thinking, tool_calls: calls, metrics } = message;
    if (this.#shown !== content && message.htmlOf === content) {
      morph(this.#body, 0, nodes(message.html), true);
      this.#body.classList.remove("plain");
      this.#shown = content;
    } else if (this.#shown !== content && this.#body.childNodes.length === 0) {
      this.#body.classList.add("plain");
      this.#body.textContent = content;
    }
    this.#thinking.update({ text: thinking ?? "", going: false, took: 0 });
    this.#calls.update(calls ?? []);
    this.#paintFacts(metrics);
    show(this.#wait, message.state === "running");
    if (message.state === "running") this.#sayWait(null, 0);
  }

  #paintStream() {
    const { state } = this.#one;
    if (state.epoch !== this.#epoch) {
      this.#epoch = state.epoch;
      this.#restart();
    }
    this.#body.classList.remove("plain");
    const whole = this.#paintBlocks(state);
    const thinking = (this.message.base_thinking ?? "") + state.thinking;
    const answering = state.thinkingTo > 0 || state.blocks.length > 0 || state.tail !== null;
    const took = (state.thinkingTo - state.thinkingFrom) / 1000;
    this.#thinking.update({ text: thinking, going: state.thinking !== "" && !answering, took });
    this.#calls.update(state.calls);
    const watch = this.#acts.watch(this.#run);
    this.#paintFacts(state.ended?.metrics ?? watch?.metrics(this.#one));
    const waits = !answering && thinking === "" && state.calls.length === 0 && !state.ended;
    show(this.#wait, waits);
    if (waits) this.#sayWait(state.wait, watch?.elapsed ?? 0);
    const text = () => this.#body.textContent;
    if (!state.ended) {
      this.#teller.grown(text);
    } else if (whole) {
      this.#finished = true;
      this.#teller.ended(text, t(this.#ending));
      this.close();
      if (!this.message.run) this.#settle();
    }
  }

  /** Returns whether all there is has been painted. */
  #paintBlocks(state) {
    let room = AT_ONCE;
    for (;;) {
      if (this.#queue.length === 0) {
        if (this.#taken === state.blocks.length) break;
        this.#queue = nodes(state.blocks[this.#taken++]);
      }
      const some = [];
      while (this.#queue.length > 0 && room > 0) {
        some.push(this.#queue.shift());
        room -= some.at(-1).textContent.length + 1;
      }
      this.#place = morph(this.#body, this.#place, some, false);
      if (room <= 0) {
        nextFrame(this.#paint);
        return false;
      }
    }
    if (state.tail !== null && state.tail !== this.#tail) {
      this.#tail = state.tail;
      morph(this.#body, this.#place, nodes(state.tail), true);
    }
    return true;
  }

  #paintFacts(metrics) {
    const model = this.message.model ?? "";
    if (this.#model.textContent !== model) this.#model.textContent = model;
    const figures = metrics ? line(metrics) : "";
    if (this.#figures.textContent !== figures) this.#figures.textContent = figures;
  }

  #sayWait(wait, elapsed) {
    const text = this.#wait.lastChild;
    const so = { seconds: number(Math.floor(elapsed)) };
    if (this.message.stopping) say(text, "stopping");
    else if (wait?.event === "queued" && wait.position) say(text, "wait_queued_at", { position: wait.position, ...so });
    else if (wait?.event === "queued") say(text, "wait_queued", so);
    else if (wait?.event === "loading") say(text, "wait_loading", { model: wait.model || this.message.model, ...so });
    else if (wait?.event === "prefill" && wait.total) {
      say(text, "wait_prefill_part", { percent: Math.floor((100 * (wait.processed ?? 0)) / wait.total), ...so });
    } else if (wait?.event === "prefill") say(text, "wait_prefill", so);
    else say(text, "wait_model", so);
  }

  #paintNote(going) {
    const key = going ? "" : this.#ending;
    const error = this.#one?.state.ended?.error ?? this.message.error;
    const state = `${key}|${this.message.state}|${error?.message ?? ""}`;
    if (this.#note.dataset.state === state) return;
    this.#note.dataset.state = state;
    const plain = going || key === "ended_complete";
    this.#note.hidden = plain;
    if (plain) return this.#note.replaceChildren();
    const failed = key === "ended_failed";
    this.#note.classList.toggle("failed", failed);
    const lines = [el("p", { class: "note-text" }, icon(failed ? "warning" : "gate"), el("span", { say: key }))];
    if (failed && error?.message) lines.push(el("p", { class: "note-detail", text: error.message }));
    if (failed && error?.hint) lines.push(el("p", { class: "note-detail", text: error.hint }));
    const { resume, regenerate } = this.#acts;
    if (this.message.state === "interrupted") lines.push(noteButton("continue", "play", () => resume(this.message)));
    else if (failed) lines.push(noteButton("try_again", "again", () => regenerate(this.message)));
    this.#note.replaceChildren(...lines);
  }

  /** The key of how it ended. */
  get #ending() {
    const ended = this.#one?.state.ended;
    if (ended?.reason === STOPPING) return "ended_owner_lost"; // as it will be kept
    const outcome = ended?.outcome ?? this.message.outcome;
    return ENDINGS[outcome] ?? (this.message.state === "failed" ? "ended_failed" : "ended_complete");
  }
}

function noteButton(key, symbol, click) {
  const props = { type: "button", class: "button small", "data-does": key, on: { click } };
  return el("button", props, icon(symbol), el("span", { say: key }));
}
