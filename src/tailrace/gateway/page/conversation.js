// One conversation: its messages and settings, and all that can be done with them. It knows nothing of the document.

import { conversations, newKey, runs } from "./api.js";
import { isOver, keep } from "./keepers.js";
import { Tree } from "./tree.js";
import { begun } from "./watches.js";

const AGAIN = [500, 1_000, 2_000, 4_000, 8_000]; // milliseconds between tries to read it
const LATER = [100, 300, 1_000, 3_000]; // and between looks at an answer that can only be read from what is kept

export class Conversation {
  tree = new Tree();
  title = "";
  loaded = false;
  #turns = 0; // under way, not answered yet
  #begun = 0; // turns in all
  #stopWanted = false;
  #reading = false;
  #stale = false;
  #timer = 0;
  #later = 0;

  /**
   * @param {string | null} id null: there will be one when the first question is asked
   * @param {object} settings `model`, `system`, `options`, `think`
   * @param {object} tell `changed(conversation)`, `renamed(old, id)`, `created(conversation)`, `turned(conversation)`,
   *   `unsent(error)` (a turn was not taken), `trouble(error)`
   */
  constructor(id, settings, tell) {
    this.id = id;
    this.settings = settings;
    this.loaded = id === null;
    this.#tell = tell;
  }

  #tell;

  /** The answer at the end of the branch that is shown, if it is being written. */
  get running() {
    const leaf = this.tree.get(this.tree.leaf);
    return leaf?.state === "running" && !isOver(leaf.run) ? leaf : null;
  }

  get lastQuestion() {
    return this.tree.branch.findLast(({ role }) => role === "user") ?? null;
  }

  /** Reads it from the server, until that works and is the latest. Throws a Problem if there is none. */
  async read() {
    clearTimeout(this.#timer);
    if (this.id === null) return;
    this.#stale = true;
    if (this.#reading || this.#turns > 0) return; // who is at it will come back to it
    this.#reading = true;
    try {
      while (this.#stale && this.#turns === 0) {
        this.#stale = false;
        const begun = this.#begun;
        const whole = await this.#get();
        if (begun === this.#begun) this.#take(whole);
        else this.#stale = true; // it may know nothing of what was asked meanwhile
      }
    } finally {
      this.#reading = false;
    }
  }

  async #get() {
    for (let failures = 0; ; failures += 1) {
      try {
        return await conversations.get(this.id);
      } catch (error) {
        if (!error.passing) throw error;
        if (failures === 0) this.#tell.trouble(error);
        await new Promise((resolve) => setTimeout(resolve, AGAIN[Math.min(failures, AGAIN.length - 1)]));
      }
    }
  }

  /** All of a run's events were read, or the server has them no more, and its answer is not written to its end yet. */
  #readLater() {
    clearTimeout(this.#timer);
    const pause = LATER[Math.min(this.#later++, LATER.length - 1)];
    this.#timer = setTimeout(() => this.read().catch(this.#tell.trouble), pause);
  }

  close() {
    clearTimeout(this.#timer);
  }

  #take(whole) {
    this.title = whole.title;
    this.settings = { model: whole.model, system: whole.system, options: whole.options ?? {}, think: whole.think };
    this.tree.set(whole.messages, whole.leaf);
    this.loaded = true;
    const kept = this.tree.all.filter(({ run }) => run).map(({ run }) => keep(run, this.id));
    if (kept.includes(false)) this.#readLater();
    else this.#later = 0;
    this.#tell.changed(this);
  }

  /** Asks a question at the end of the branch. Returns whether it was taken. */
  ask(text) {
    const leaf = this.tree.get(this.tree.leaf);
    return this.#question(text, leaf?.id ?? null);
  }

  /** Asks another question in the place of one. */
  edit(question, text) {
    return this.#question(text, question.parent);
  }

  async #question(text, parent) {
    const question = { id: `new-${newKey()}`, parent, role: "user", content: text, pending: true };
    const answer = this.#pendingAnswer(question.id);
    return this.#turn({ content: text, parent }, [question, answer]);
  }

  /** Has a question answered again. */
  regenerate(question) {
    return this.#turn({ regenerate: question.id }, [this.#pendingAnswer(question.id)]);
  }

  /** Has an interrupted answer go on. */
  async resume(answer) {
    const before = { ...answer };
    Object.assign(answer, { state: "running", outcome: null, error: null });
    if (await this.#turn({ continue: answer.id }, [])) return true;
    Object.assign(answer, before);
    this.#tell.changed(this);
    return false;
  }

  /** Stops the answer that is shown; before it has begun, as soon as it has. */
  async stop() {
    const answer = this.running;
    if (answer === null || answer.stopping) return;
    answer.stopping = true;
    this.#stopWanted = answer.run === null;
    this.#tell.changed(this);
    if (answer.run === null) return;
    try {
      await runs.stop(answer.run);
    } catch (error) {
      if (error.status === 404) await this.read();
      else this.#tell.trouble(error);
    }
    answer.stopping = false;
    this.#tell.changed(this);
  }

  /** Shows the branch through a message. */
  show(id) {
    this.tree.leaf = this.tree.end(id);
    this.#tell.changed(this);
    this.#save({ leaf: this.tree.leaf });
  }

  /** Changes settings from here on. */
  set(values) {
    Object.assign(this.settings, values);
    this.#tell.changed(this);
    this.#save(values);
  }

  #save(values) {
    if (this.id === null || String(values.leaf ?? "").startsWith("new-")) return;
    conversations.update(this.id, values).catch(this.#tell.trouble);
  }

  #pendingAnswer(parent) {
    const { model } = this.settings;
    const message = { id: `new-${newKey()}`, parent, role: "assistant", content: "", model };
    return { ...message, state: "running", run: null, pending: true };
  }

  /** Sends a turn; the messages it will bring are shown at once. Returns whether it was taken. */
  async #turn(body, expected) {
    const leaf = this.tree.leaf;
    for (const message of expected) this.tree.add(message);
    this.tree.leaf = expected.at(-1)?.id ?? leaf;
    this.#turns += 1;
    this.#begun += 1;
    this.#tell.changed(this);
    let turn = null;
    try {
      if (this.id === null) await this.#create();
      turn = await conversations.turn(this.id, body, newKey());
      this.#adopt(turn, expected);
    } catch (error) {
      for (const message of expected) this.tree.remove(message.id);
      this.tree.leaf = leaf;
      this.#stopWanted = false;
      this.#tell.unsent(error);
    }
    this.#turns -= 1;
    this.#tell.changed(this);
    if (this.#stopWanted && turn !== null) await this.#stopNow(turn);
    if (this.#stale) await this.read();
    return turn !== null;
  }

  async #create() {
    const whole = await conversations.create(this.settings);
    this.id = whole.id;
    this.#tell.created(this);
  }

  #adopt({ question, answer, run }, expected) {
    for (const [message, real] of [[expected.at(-2), question], [expected.at(-1), answer]]) {
      if (!real) continue;
      if (message) {
        this.tree.remove(message.id);
        this.#tell.renamed(message.id, real.id);
      }
      this.tree.add(Object.assign(this.tree.get(real.id) ?? message ?? {}, real, { pending: false }));
    }
    this.tree.leaf = answer.id;
    begun(run.id);
    keep(run.id, this.id);
    this.#tell.turned(this);
  }

  async #stopNow({ answer }) {
    this.#stopWanted = false;
    this.tree.get(answer.id).stopping = false;
    await this.stop();
  }
}
