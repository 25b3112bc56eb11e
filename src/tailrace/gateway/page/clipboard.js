// Copying, also where a page has no clipboard: over plain HTTP in a local network.

/** Copies a text; returns whether that worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const selection = document.getSelection();
  const ranges = Array.from({ length: selection.rangeCount }, (_, place) => selection.getRangeAt(place));
  const area = document.createElement("textarea");
  area.className = "unseen";
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus({ preventScroll: true });
  if (ranges.length > 0) selection.removeAllRanges();
  for (const range of ranges) selection.addRange(range);
  return done;
}
