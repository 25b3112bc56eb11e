// Requests to the gateway: JSON in, JSON out, problems as errors.

import { access } from "./access.js";

class Problem extends Error {
  /** @param {number} status 0 if no answer came */
  constructor(status, { title = "", detail = "", hint = "" } = {}) {
    super(detail || title);
    this.status = status;
    this.hint = hint;
  }

  /** Whether the same request may do better in a while. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}

const listeners = { reach: new Set(), locked: new Set() };

/** Told after each request whether the server could be reached. */
export function onReach(listener) {
  listeners.reach.add(listener);
}

/** Told when the server wants a key, or another one. */
export function onLocked(listener) {
  listeners.locked.add(listener);
}

/** Sends a request; returns what it answers, null for nothing. Throws a Problem. */
export async function call(method, path, body, { key, keepalive = false } = {}) {
  const headers = { Accept: "application/json", ...access.headers };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const request = { method, headers, body: JSON.stringify(body), keepalive, cache: "no-store" };
  const { ok, status, text } = await answer(path, request);
  for (const listener of listeners.reach) listener(status !== 0);
  if (status === 401) for (const listener of listeners.locked) listener();
  const value = parsed(text);
  if (!ok) throw new Problem(status, value ?? {});
  return value;
}

async function answer(path, request) {
  try {
    const response = await fetch(path, request);
    return { ok: response.ok, status: response.status, text: await response.text() };
  } catch {
    return { ok: false, status: 0, text: "" };
  }
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null; // a proxy's page
  }
}

/** Fetches a file. */
export async function download(path) {
  const response = await fetch(path, { headers: access.headers });
  if (!response.ok) throw new Problem(response.status, parsed(await response.text()) ?? {});
  const named = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition"));
  return { blob: await response.blob(), name: decodeURIComponent(named?.[1] ?? "conversation") };
}

/** As `call`, with a few tries if the trouble passes; safe where the key makes the second join the first. */
async function insist(method, path, body, key, tries = 3) {
  for (let failures = 1; ; failures += 1) {
    try {
      return await call(method, path, body, { key });
    } catch (error) {
      if (!error.passing || failures >= tries) throw error;
      await new Promise((resolve) => setTimeout(resolve, 400 * 2 ** failures * (0.5 + Math.random())));
    }
  }
}

/** A key that no other request has. `crypto.randomUUID` is missing on plain HTTP. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const path = (id) => `/conversations/${encodeURIComponent(id)}`;

export const conversations = {
  list: (query) => call("GET", `/conversations?${new URLSearchParams(query)}`),
  get: (id) => call("GET", path(id)),
  create: (settings) => call("POST", "/conversations", settings),
  update: (id, values) => call("PATCH", path(id), values),
  remove: (id, options) => call("DELETE", path(id), undefined, options),
  turn: (id, body, key) => insist("POST", `${path(id)}/turns`, body, key),
  exported: (id, format) => `${path(id)}/export?format=${format}`,
};

export const runs = {
  get: (id) => call("GET", `/runs/${encodeURIComponent(id)}`),
  stop: (id) => call("DELETE", `/runs/${encodeURIComponent(id)}`),
};

export const models = () => call("GET", "/models");

export const alive = () => call("GET", "/healthz");
