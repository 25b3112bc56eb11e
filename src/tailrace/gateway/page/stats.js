// The figures of an answer: ours while it comes, marked "~", and the server's at the end where it tells them.

import { pieces } from "./fold.js";
import { number, t } from "./i18n.js";

/** Our own watch over one run. */
export class Watch {
  #first = null; // seconds until the first piece; null: not seen, or not known

  /** @param {object} [metrics] the run's figures when we came; none: it has just begun */
  constructor(metrics) {
    this.#began = performance.now() - (metrics?.elapsed ?? 0) * 1000;
    this.#first = metrics?.time_to_first_token ?? null;
    this.#missed = metrics !== undefined;
  }

  #began;
  #missed;

  get elapsed() {
    return (performance.now() - this.#began) / 1000;
  }

  /** The figures now, as the server would name them. */
  metrics({ state, arrivals }) {
    const count = pieces(state);
    if (count > 0 && this.#first === null && !this.#missed) this.#first = this.elapsed;
    const last = arrivals.at(-1);
    const span = (last.at - arrivals[0].at) / 1000;
    const since = this.elapsed - (this.#first ?? 0);
    let rate = null;
    if (span >= 0.5) rate = (last.number - arrivals[0].number) / span;
    else if (count > 1 && since >= 0.5) rate = count / since;
    return {
      tokens_per_second: rate,
      time_to_first_token: this.#first,
      output_tokens: count,
      estimated: true,
      elapsed: this.elapsed,
    };
  }
}

/** The figures in one line; there are none of what has said nothing. What is our count is marked. */
export function line(metrics) {
  if (!metrics.output_tokens) return "";
  const about = metrics.estimated ? "~" : "";
  const parts = [];
  if (metrics.tokens_per_second) parts.push(t("rate", { rate: about + number(metrics.tokens_per_second, 1) }));
  if (metrics.time_to_first_token) parts.push(t("first_token", { seconds: seconds(metrics.time_to_first_token) }));
  parts.push(t("tokens", { count: about + number(metrics.output_tokens) }));
  if (metrics.elapsed) parts.push(t("elapsed", { seconds: seconds(metrics.elapsed) }));
  return parts.map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");
}

/** Seconds, as exactly as they mean something. */
export function seconds(value) {
  if (value < 1) return number(value, 2);
  return number(value, value < 10 ? 1 : 0);
}
