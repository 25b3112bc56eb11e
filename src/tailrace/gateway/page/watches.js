// The watches over runs under way; one a run, whoever shows it.

import { runs } from "./api.js";
import { Watch } from "./stats.js";

const watches = new Map(); // run → Watch, or null while we ask how long it has been running

/** A run that has begun just now, or so far as these figures of it say. */
export function begun(run, metrics) {
  watches.set(run, new Watch(metrics));
}

/** The watch over a run; null if it is not known yet. */
export function watchOf(run) {
  if (!watches.has(run)) {
    watches.set(run, null);
    runs.get(run).then(
      ({ metrics }) => begun(run, metrics ?? {}),
      () => watches.delete(run),
    );
  }
  return watches.get(run);
}
