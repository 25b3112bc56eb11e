// One write to the document per frame, whoever wants to write. Nothing is written while nobody looks.

const tasks = new Set();
let asked = false;

/** Has a task run in the next frame; asked again before, it still runs once. */
export function nextFrame(task) {
  tasks.add(task);
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    const now = [...tasks];
    tasks.clear();
    for (const task of now) task();
  });
}
