// What somebody chose on this browser. Works without storage, for the time being.

const DEFAULTS = {
  language: "auto", // or "en", "zh"
  theme: "auto", // or "light", "dark"; read by theme.js too
  enter: matchMedia("(pointer: coarse)").matches ? "newline" : "send",
  announce: "answer", // what screen readers are told: the "answer" when it is whole, its "sentences", or "end" only
  model: "",
  key: "",
  sidebar: "open",
};

const memory = new Map();

export const prefs = {
  get: (name) => read(name) ?? DEFAULTS[name],
  set: (name, value) => write(name, value),
};

/** Texts that are not sent yet, one for each conversation. */
export const drafts = {
  get: (conversation) => read(`draft.${conversation ?? "new"}`) ?? "",
  set: (conversation, text) => write(`draft.${conversation ?? "new"}`, text || null),
};

function read(name) {
  if (memory.has(name)) return memory.get(name);
  try {
    return localStorage.getItem(`tailrace.${name}`);
  } catch {
    return null;
  }
}

function write(name, value) {
  try {
    if (value === null) localStorage.removeItem(`tailrace.${name}`);
    else localStorage.setItem(`tailrace.${name}`, value);
    memory.delete(name);
  } catch {
    memory.set(name, value);
  }
}
