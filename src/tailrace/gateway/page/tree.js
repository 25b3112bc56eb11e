// The messages of a conversation: a tree, of which one branch is shown.

export class Tree {
  #messages = new Map();
  leaf = null;

  /**
   * Takes all messages as the server has them; what we know besides of those we have stays with them.
   * A branch that is shown stays shown, to where the server's goes on from it.
   */
  set(list, leaf) {
    const before = this.#messages;
    this.#messages = new Map(list.map((message) => [message.id, Object.assign(before.get(message.id) ?? {}, message)]));
    const shown = this.leaf;
    this.leaf = this.#messages.has(leaf) ? leaf : (list.at(-1)?.id ?? null);
    if (this.#messages.has(shown) && !this.branch.some(({ id }) => id === shown)) this.leaf = shown;
  }

  get(id) {
    return this.#messages.get(id);
  }

  add(message) {
    this.#messages.set(message.id, message);
  }

  remove(id) {
    this.#messages.delete(id);
  }

  get all() {
    return [...this.#messages.values()];
  }

  /** The messages from the first to the leaf. */
  get branch() {
    const way = [];
    for (let at = this.get(this.leaf); at; at = this.get(at.parent)) way.push(at);
    return way.reverse();
  }

  /** A message and those that stand in its place on other branches, the oldest first. */
  siblings(message) {
    return this.#children(message.parent);
  }

  /** The end of the branch that goes on from a message, by the newest answers and questions. */
  end(id) {
    let at = id;
    for (let below = this.#children(at); below.length > 0; below = this.#children(at)) at = below.at(-1).id;
    return at;
  }

  #children(parent) {
    return this.all.filter((message) => message.parent === parent);
  }
}
