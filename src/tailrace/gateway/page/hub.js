// Many runs for many listeners: each run is read once, whoever listens, and few have a connection of their own.
// A browser opens six connections to a server over HTTP/1.1, for all of its tabs; some must be left for requests.

import { fold, nothing } from "./fold.js";
import { Follower } from "./follow.js";

export class Hub {
  /** @param {number} most how many runs are read over a connection of their own; the rest are asked for now and then */
  constructor(most) {
    this.most = most;
  }

  #runs = new Map(); // id → {state, connection, follower, listeners}

  /** @param {{snapshot, events, connection, visible}} listener told all there is of the run, then what comes */
  add(run, listener) {
    let entry = this.#runs.get(run);
    if (entry === undefined) {
      entry = { state: nothing(run), connection: "live", follower: null, listeners: new Set() };
      this.#runs.set(run, entry);
    }
    entry.listeners.add(listener);
    this.plan();
    entry.follower ??= this.#follow(entry);
    listener.snapshot(entry.state);
    listener.connection(entry.connection);
  }

  remove(run, listener) {
    const entry = this.#runs.get(run);
    if (entry === undefined || !entry.listeners.delete(listener)) return;
    if (entry.listeners.size === 0) {
      entry.follower.stop();
      this.#runs.delete(run);
    }
    this.plan();
  }

  /** Those that wait to try again try at once. */
  wake() {
    for (const entry of this.#runs.values()) entry.follower.wake();
  }

  /** Decides anew who has a connection: what somebody looks at first, then who came first. */
  plan() {
    const open = [...this.#runs.values()].filter((entry) => !entry.follower?.done);
    const seen = (entry) => [...entry.listeners].some((listener) => listener.visible);
    open.sort((one, other) => seen(other) - seen(one)); // stable: the order they came in is kept
    for (const [place, entry] of open.entries()) {
      entry.live = place < this.most;
      entry.follower?.setLive(entry.live);
    }
  }

  #follow(entry) {
    const { state, listeners } = entry;
    const events = (list) => {
      const now = Date.now();
      for (const event of list) fold(state, event, now);
      for (const listener of listeners) listener.events(list, now);
    };
    const connection = (kind) => {
      entry.connection = kind;
      for (const listener of listeners) listener.connection(kind);
      if (kind === "ended" || kind === "gone") queueMicrotask(() => this.plan()); // its place is free
    };
    return new Follower(state.run, { events, connection }, entry.live);
  }
}
