// Lines that a job logs: follows their end, unless the reader has scrolled up.

import { count } from "../words.js";

const MOST_LINES = 1000;
const NEAR_PX = 24;

/** The lines of one job. */
export class Log {
  /** @type {string[]} */
  #waiting = [];
  #left = 0;

  /**
   * @param {HTMLElement} place Shows them.
   * @param {HTMLElement} note Says how many earlier ones are not shown.
   * @param {HTMLElement} toEnd Goes back to following; hidden while it follows.
   */
  constructor(place, note, toEnd) {
    this.place = place;
    this.note = note;
    this.toEnd = toEnd;
    place.addEventListener("scroll", () => (toEnd.hidden = this.#follows()), { passive: true });
    toEnd.addEventListener("click", () => {
      place.scrollTop = place.scrollHeight;
      place.focus();
    });
  }

  /** @param {string} line Is shown with the next `show`. */
  add(line) {
    this.#waiting.push(line);
    if (this.#waiting.length > MOST_LINES) {
      this.#waiting.shift();
      this.#left += 1;
    }
  }

  /** Shows what was added. */
  show() {
    if (!this.#waiting.length) return;
    const follows = this.#follows();
    this.place.append(...this.#waiting.map((line) => document.createTextNode(`${line}\n`)));
    this.#waiting = [];
    const above = this.place.scrollHeight;
    while (this.place.childNodes.length > MOST_LINES) {
      this.place.firstChild?.remove();
      this.#left += 1;
    }
    const left = count(this.#left);
    this.note.textContent = this.#left ? `${left} earlier lines are not shown.` : "";
    if (follows) this.place.scrollTop = this.place.scrollHeight;
    // What is being read stays where it is while lines above it go.
    else this.place.scrollTop -= above - this.place.scrollHeight;
    this.toEnd.hidden = this.#follows();
  }

  /** Forgets all lines. */
  clear() {
    this.#waiting = [];
    this.#left = 0;
    this.place.replaceChildren();
    this.note.textContent = "";
    this.toEnd.hidden = true;
  }

  #follows() {
    const { scrollTop, scrollHeight, clientHeight } = this.place;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }
}
