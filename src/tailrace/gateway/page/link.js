// The line that says that the server cannot be reached, and that we go on trying.

import { alive, onReach } from "./api.js";
import { show } from "./dom.js";
import { anyLost, onConnection, wake } from "./runs.js";

const FIRST = 500;
const LONGEST = 8_000;

/** Watches the connection; `back` is called when the server can be reached again. */
export function watchLink(back) {
  const bar = document.getElementById("link");
  let reached = true;
  let timer = 0;
  let pause = FIRST;

  const update = () => show(bar, !reached || anyLost());
  const look = () => {
    clearTimeout(timer);
    alive().catch(() => {}); // the listener below hears how it went
  };
  onReach((ok) => {
    const before = reached;
    reached = ok;
    clearTimeout(timer);
    if (!ok) {
      timer = setTimeout(look, pause * (0.5 + Math.random()));
      pause = Math.min(LONGEST, pause * 2);
    } else {
      pause = FIRST;
      if (!before) {
        wake();
        back();
      }
    }
    update();
  });
  onConnection(update);
  window.addEventListener("online", () => reached || look());
  document.getElementById("try-now").addEventListener("click", () => {
    look();
    wake();
  });
}
