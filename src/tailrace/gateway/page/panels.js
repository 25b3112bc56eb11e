// Dialogs: opened by a button, closed by Escape, by their cross, or by a press beside them.

/** Makes a dialog work; `opened` is called before it is shown. Returns what opens it. */
export function panel(id, opened = () => {}) {
  const dialog = document.getElementById(id);
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && outside(dialog, event) && dialog.close());
  return () => {
    if (dialog.open) return;
    opened();
    dialog.showModal();
  };
}

function outside(dialog, { clientX, clientY }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return clientX < left || clientX > right || clientY < top || clientY > bottom;
}
