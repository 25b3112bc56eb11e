// A tab's way to its runs: over the worker that all tabs share, or by itself where the browser has none.

import { access } from "./access.js";
import { fold, nothing } from "./fold.js";
import { Hub } from "./hub.js";

const VERSION = "1"; // of what tabs and worker say to each other: another one is another worker
const HELLO = 8_000; // a worker that has not spoken by then never will
const ALONE = 1; // connections of a tab that has no worker; each tab has as many

const followed = new Map(); // run → Followed
const onlookers = new Set();
let way = null;

/** A run as this tab knows it. Each change is told to the listeners as `changed(followed)`. */
class Followed {
  listeners = new Set();
  connection = "live";

  constructor(run) {
    this.state = nothing(run);
    this.arrivals = [{ at: performance.now(), number: 0 }]; // the last few, for the rate
  }

  snapshot(state) {
    this.state = state;
    this.#changed();
  }

  events(list, now) {
    for (const event of list) fold(this.state, event, now);
    this.#changed();
  }

  connected(connection) {
    this.connection = connection;
    this.#changed();
    for (const listener of onlookers) listener();
  }

  #changed() {
    const at = performance.now();
    const { number } = this.state;
    if (number > this.arrivals.at(-1).number) {
      this.arrivals.push({ at, number });
      while (this.arrivals.length > 2 && this.arrivals[1].at < at - 5000) this.arrivals.shift();
    }
    for (const listener of [...this.listeners]) listener(this);
  }
}

/** Reads a run; `changed` is called now and whenever more is known. Returns what ends that. */
export function follow(run, changed) {
  way ??= "SharedWorker" in window ? overWorker() : alone();
  let one = followed.get(run);
  if (one === undefined) {
    one = new Followed(run);
    followed.set(run, one);
    way.follow(run);
  }
  one.listeners.add(changed);
  changed(one);
  return () => {
    one.listeners.delete(changed);
    if (one.listeners.size > 0 || followed.get(run) !== one) return;
    followed.delete(run);
    way.leave(run);
  };
}

/** Whether some run's connection is lost at the moment. */
export function anyLost() {
  return [...followed.values()].some(({ connection }) => connection === "lost");
}

/** Whenever a connection is lost or found. */
export function onConnection(changed) {
  onlookers.add(changed);
}

/** There is another key to the server: those who read for this tab are to know. */
export function tellKey() {
  way?.tellKey?.();
  wake();
}

/** Tries again at once. */
export function wake() {
  way?.wake();
}

function overWorker() {
  let port = null;
  let greeted = false;
  const connect = () => {
    const worker = new SharedWorker("/static/worker.js", { type: "module", name: `tailrace-${VERSION}` });
    port = worker.port;
    port.onmessage = take;
    worker.onerror = () => greeted || replace();
    setTimeout(() => greeted || replace(), HELLO);
    port.postMessage({ kind: "key", key: access.key });
    port.postMessage({ kind: "visible", visible: !document.hidden });
    for (const run of followed.keys()) port.postMessage({ kind: "follow", run });
  };
  const take = ({ data }) => {
    greeted = true;
    if (data.kind === "ask") port.postMessage({ kind: "here" });
    const one = followed.get(data.run);
    if (data.kind === "snapshot") one?.snapshot(data.state);
    else if (data.kind === "events") one?.events(data.list, data.now);
    else if (data.kind === "connection") one?.connected(data.connection);
  };
  const replace = () => {
    if (way !== self) return;
    port.postMessage({ kind: "bye" });
    port.close();
    way = alone();
    for (const run of followed.keys()) way.follow(run);
  };
  const again = () => {
    if (way !== self) return;
    port.postMessage({ kind: "visible", visible: !document.hidden });
    if (!document.hidden) port.postMessage({ kind: "wake" });
  };
  const self = {
    follow: (run) => port.postMessage({ kind: "follow", run }),
    leave: (run) => port.postMessage({ kind: "leave", run }),
    wake: () => port.postMessage({ kind: "wake" }),
    tellKey: () => port.postMessage({ kind: "key", key: access.key }),
  };
  document.addEventListener("visibilitychange", again);
  window.addEventListener("online", again);
  window.addEventListener("pagehide", () => way === self && port.postMessage({ kind: "bye" }));
  window.addEventListener("pageshow", (event) => event.persisted && way === self && connect());
  connect();
  return self;
}

function alone() {
  const hub = new Hub(ALONE);
  const listeners = new Map();
  const self = {
    follow(run) {
      const one = followed.get(run);
      const listener = {
        visible: true,
        snapshot: (state) => one.snapshot(structuredClone(state)),
        events: (list, now) => one.events(list, now),
        connection: (connection) => one.connected(connection),
      };
      listeners.set(run, listener);
      hub.add(run, listener);
    },
    leave(run) {
      hub.remove(run, listeners.get(run));
      listeners.delete(run);
    },
    wake: () => hub.wake(),
  };
  // A tab that nobody looks at leaves the browser's few connections to those that are.
  const visible = () => {
    hub.most = document.hidden ? 0 : ALONE;
    hub.plan();
    if (!document.hidden) hub.wake();
  };
  document.addEventListener("visibilitychange", visible);
  window.addEventListener("online", () => hub.wake());
  visible();
  return self;
}
