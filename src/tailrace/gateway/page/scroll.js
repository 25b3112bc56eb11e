// Keeps the end in view while it grows, until the reader wants to look elsewhere.

const NEAR = 60; // pixels from the end that count as the end
const UPWARD = new Set(["ArrowUp", "PageUp", "Home"]);

export class ScrollKeeper {
  /**
   * @param {HTMLElement} scroller what scrolls
   * @param {HTMLElement} column what grows in it
   * @param {HTMLButtonElement} button "to the latest", shown when there is somewhere to go
   */
  constructor(scroller, column, button) {
    this.#scroller = scroller;
    this.#button = button;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    scroller.addEventListener("wheel", ({ deltaY }) => deltaY < 0 && this.#leave(), { passive: true });
    const touched = ({ touches: [touch] }) => (this.#finger = touch.clientY);
    scroller.addEventListener("touchstart", touched, { passive: true });
    scroller.addEventListener("touchmove", (event) => this.#touched(event), { passive: true });
    scroller.addEventListener("keydown", (event) => this.#pressed(event));
    button.addEventListener("click", () => this.toEnd(true));
    // Sizes are told after layout and before painting: to scroll then costs nothing and nobody sees the step.
    const sizes = new ResizeObserver(() => this.#grown());
    sizes.observe(column);
    sizes.observe(scroller);
  }

  #scroller;
  #button;
  #pinned = true;
  #top = 0; // where we were last
  #height = 0;
  #finger = 0;

  get pinned() {
    return this.#pinned;
  }

  /** Goes to the end and stays there. */
  toEnd(smoothly = false) {
    this.#pinned = true;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: smoothly && !calm ? "smooth" : "instant" });
    this.#note();
  }

  /** Stays here, whatever grows. */
  release() {
    this.#pinned = false;
    this.#note();
  }

  #left() {
    const { scrollHeight, clientHeight, scrollTop } = this.#scroller;
    return scrollHeight - clientHeight - scrollTop;
  }

  #leave() {
    if (this.#scroller.scrollHeight > this.#scroller.clientHeight + 1) this.release();
  }

  /** Somebody moved up, by whatever means there is (a scrollbar, a search): the place is higher and nothing shrank. */
  #movedUp() {
    const { scrollTop, scrollHeight } = this.#scroller;
    return scrollTop < this.#top - 1 && scrollHeight >= this.#height;
  }

  #scrolled() {
    if (this.#movedUp()) this.#pinned = false;
    else if (this.#scroller.scrollTop > this.#top && this.#left() <= NEAR) this.#pinned = true;
    this.#note();
  }

  #grown() {
    if (this.#pinned && this.#movedUp()) this.#pinned = false;
    if (this.#pinned) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#note();
  }

  #touched({ touches: [touch] }) {
    if (touch.clientY > this.#finger) this.#leave();
    this.#finger = touch.clientY;
  }

  #pressed({ key, shiftKey, target }) {
    if (target.matches("input, textarea, select")) return;
    if (UPWARD.has(key) || (key === " " && shiftKey)) this.#leave();
  }

  #note() {
    this.#top = this.#scroller.scrollTop;
    this.#height = this.#scroller.scrollHeight;
    const away = !this.#pinned && this.#left() > NEAR;
    if (this.#button.hidden === away) this.#button.hidden = !away;
  }
}
