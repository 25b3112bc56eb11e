// Saving a conversation as a file. A plain link would not bring the key that the server may want.

import { conversations, download } from "./api.js";

/** Saves a conversation, as "md" or "json". */
export async function save(id, format) {
  const { blob, name } = await download(conversations.exported(id, format));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may still be asking where to
}
