// Reads one run to its end, whatever happens to the connection. Works in a tab and in a worker.

import { access } from "./access.js";
import { EventParser } from "./sse.js";

const SILENCE = 45_000; // the server pings every 15 s: a connection as silent as this is dead
const POLL = 1_500;
const LONGEST = 10_000; // between two tries
const PASSING = new Set([401, 429]); // a key may come, and so may better times

export class Follower {
  /**
   * @param {string} run its id
   * @param {{events: (list: object[]) => void, connection: (kind: string) => void}} to `connection` is told "live",
   *   "lost" (and we try again), "ended" (all has been read) or "gone" (there is no more to be read)
   * @param {boolean} live over a connection of its own; else by asking now and then
   */
  constructor(run, to, live) {
    this.run = run;
    this.live = live;
    this.done = false;
    this.#to = to;
    this.#read();
  }

  #to;
  #last = ""; // the id of the last event
  #retry = 500;
  #failures = 0;
  #connection = null; // an AbortController
  #resume = null; // ends a wait

  /** Leaves; the run goes on. */
  stop() {
    this.done = true;
    this.#connection?.abort();
    this.wake();
  }

  /** Tries again at once, if it waits to. */
  wake() {
    this.#resume?.();
  }

  /** Gives or takes the connection of its own. */
  setLive(live) {
    if (this.live === live || this.done) return;
    this.live = live;
    this.#connection?.abort();
    this.wake();
  }

  async #read() {
    while (!this.done) {
      const live = this.live;
      let again = 0;
      try {
        again = await this.#connect(live);
        this.#failures = 0;
      } catch (error) {
        if (this.done || live !== this.live) continue;
        this.#failures += 1;
        this.#tell("lost");
        again = error.retryAfter ?? Math.min(LONGEST, this.#retry * 2 ** (this.#failures - 1));
      }
      // Spread, so that the tabs of a server that comes back do not all come at one moment.
      if (!this.done && live === this.live) await this.#pause(again * (0.5 + Math.random()));
    }
  }

  /** Reads one connection to its end; returns how long to wait before the next. Throws if it broke. */
  async #connect(live) {
    const connection = new AbortController();
    this.#connection = connection;
    let silence = setTimeout(() => connection.abort(), SILENCE);
    try {
      const request = { signal: connection.signal, cache: "no-store", headers: access.headers };
      const response = await fetch(this.#url(live), request);
      if (response.status >= 500 || PASSING.has(response.status)) throw refused(response);
      if (response.status !== 200) return this.#finish("gone"); // 204 too: an ending that we did not see
      this.#tell("live");
      const parser = new EventParser();
      const decoder = new TextDecoder();
      const body = response.body.getReader();
      for (;;) {
        const { value, done } = await body.read();
        clearTimeout(silence);
        if (done) break;
        silence = setTimeout(() => connection.abort(), SILENCE);
        this.#take(parser.feed(decoder.decode(value, { stream: true })));
        this.#retry = parser.retry ?? this.#retry;
        if (this.done) return 0;
      }
      return live ? this.#retry : POLL;
    } finally {
      clearTimeout(silence);
      connection.abort();
    }
  }

  #url(live) {
    const after = this.#last ? `&after=${encodeURIComponent(this.#last)}` : "";
    return `/runs/${encodeURIComponent(this.run)}/events?render=html${after}${live ? "" : "&follow=false"}`;
  }

  #take(events) {
    if (this.done || events.length === 0) return;
    this.#failures = 0;
    this.#last = events.at(-1).id || this.#last;
    this.#to.events(events);
    if (events.some(({ event }) => event === "ended")) this.#finish("ended");
  }

  #finish(kind) {
    this.done = true;
    this.#tell(kind);
    return 0;
  }

  #told = "";

  #tell(kind) {
    if (kind === this.#told) return;
    this.#told = kind;
    this.#to.connection(kind);
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#resume = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function refused(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  return Object.assign(new Error(String(response.status)), seconds > 0 ? { retryAfter: seconds * 1000 } : {});
}
