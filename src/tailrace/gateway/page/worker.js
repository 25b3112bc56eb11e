// The one reader of all tabs: a shared worker. Each tab talks to it over a port of its own; see runs.js.

import { access } from "./access.js";
import { Hub } from "./hub.js";

const LIVE = 4;
const ASK = 20_000; // tabs that no longer answer are gone: not every browser says when a port closes
const PATIENCE = 3;

const hub = new Hub(LIVE);
const tabs = new Set();

class Tab {
  #port;
  #listeners = new Map(); // run → listener
  #visible = true;
  unanswered = 0;

  constructor(port) {
    this.#port = port;
    port.onmessage = ({ data }) => this.#take(data);
    port.addEventListener("close", () => this.leave());
    port.start();
    port.postMessage({ kind: "hello" });
  }

  leave() {
    for (const [run, listener] of this.#listeners) hub.remove(run, listener);
    this.#listeners.clear();
    tabs.delete(this);
  }

  ask() {
    this.unanswered += 1;
    if (this.unanswered > PATIENCE) this.leave();
    else this.#port.postMessage({ kind: "ask" });
  }

  #take({ kind, run, visible, key }) {
    this.unanswered = 0;
    tabs.add(this); // one that we gave up may have been asleep
    if (kind === "follow") this.#follow(run);
    else if (kind === "leave") this.#drop(run);
    else if (kind === "visible") this.#show(visible);
    else if (kind === "wake") hub.wake();
    else if (kind === "key") access.key = key;
    else if (kind === "bye") this.leave();
  }

  #follow(run) {
    const before = this.#listeners.get(run); // asked again, a tab wants all of it anew
    const send = (message) => this.#port.postMessage({ run, ...message });
    const listener = {
      visible: this.#visible,
      snapshot: (state) => send({ kind: "snapshot", state }),
      events: (list, now) => send({ kind: "events", list, now }),
      connection: (connection) => send({ kind: "connection", connection }),
    };
    this.#listeners.set(run, listener);
    hub.add(run, listener);
    if (before) hub.remove(run, before);
  }

  #drop(run) {
    const listener = this.#listeners.get(run);
    if (listener === undefined) return;
    this.#listeners.delete(run);
    hub.remove(run, listener);
  }

  #show(visible) {
    this.#visible = visible;
    for (const listener of this.#listeners.values()) listener.visible = visible;
    hub.plan();
  }
}

self.onconnect = ({ ports: [port] }) => tabs.add(new Tab(port));
self.addEventListener("online", () => hub.wake());
setInterval(() => {
  for (const tab of [...tabs]) tab.ask();
}, ASK);
