// Server-sent events out of text, in whatever pieces it comes. No input or output of its own.

export class EventParser {
  /** Milliseconds the server asks for between two connections; null until it does. */
  retry = null;

  #rest = "";
  #afterReturn = false; // a line feed that comes next belongs to the carriage return before it
  #data = [];
  #event = "";
  #id = "";
  #begun = false;

  /** Takes text; returns the events it completes: `{event, data, id}`. */
  feed(text) {
    if (!this.#begun && text) {
      this.#begun = true;
      if (text.startsWith("\ufeff")) text = text.slice(1);
    }
    if (this.#afterReturn && text) {
      this.#afterReturn = false;
      if (text[0] === "\n") text = text.slice(1);
    }
    const events = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop();
    this.#afterReturn = text.endsWith("\r");
    for (const line of lines) this.#line(line, events);
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length > 0) {
        events.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
      }
      this.#data = [];
      this.#event = "";
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }
}
