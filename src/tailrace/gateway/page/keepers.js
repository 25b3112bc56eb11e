// Runs that this tab has seen and that go on: it reads them until they end, whatever it shows, lest nobody does.

import { follow } from "./runs.js";

const KEY = "tailrace.running";
const kept = new Map(); // run → {conversation, leave}
const over = new Set(); // runs that have ended, or that the server no longer keeps
const listeners = new Set();

/** Reads a run of a conversation to its end. Returns false if there is no more to be read. */
export function keep(run, conversation) {
  if (kept.has(run) || over.has(run)) return kept.has(run);
  const one = { conversation, leave: null };
  kept.set(run, one);
  remember();
  one.leave = follow(run, ({ state, connection }) => {
    if (over.has(run) || !(state.ended || connection === "gone")) return;
    over.add(run);
    queueMicrotask(() => drop(run));
  });
  tell(conversation);
  return true;
}

/** Whether there is no more to be read of a run. */
export function isOver(run) {
  return over.has(run);
}

/** The conversations with a run that goes on. */
export function running() {
  return new Set([...kept.values()].map(({ conversation }) => conversation));
}

/** Whenever a run begins or is over: `changed(conversation)`. */
export function onRuns(changed) {
  listeners.add(changed);
}

/** Goes on with those that this tab had before it was loaded anew. */
export function resumeKept() {
  let before = {};
  try {
    before = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
  } catch {
    // no storage, or none of ours
  }
  for (const [run, conversation] of Object.entries(before)) keep(run, conversation);
}

function drop(run) {
  const { conversation, leave } = kept.get(run);
  kept.delete(run);
  remember();
  leave();
  tell(conversation);
}

function tell(conversation) {
  for (const listener of listeners) listener(conversation);
}

function remember() {
  try {
    const all = [...kept].map(([run, { conversation }]) => [run, conversation]);
    sessionStorage.setItem(KEY, JSON.stringify(Object.fromEntries(all)));
  } catch {
    // then a reload forgets them, unless they are shown
  }
}
