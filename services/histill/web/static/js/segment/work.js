// What is to be asked about an image, one after the other: two models at once would slow each
// other down, and their milliseconds would say nothing.

import { OtherPictureError } from "./lane.js";
import { persistently } from "./waiting.js";

/**
 * @typedef {import("./lane.js").Lane} Lane
 * @typedef {import("./lane.js").Subject} Subject
 * @typedef {import("./waiting.js").Wait} Wait
 */

/**
 * One request.
 *
 * @typedef {object} Step
 * @property {Lane} lane
 * @property {"mask" | "confidence"} what
 */

export class Work {
  /** @type {Subject | null} */
  subject = null;
  /** @type {Lane[]} Those whose models are wanted. */
  lanes = [];
  /** Whether confidences are wanted. */
  shaded = false;
  /** @type {Step & {subject: Subject, model: string, abort: AbortController} | null} */
  running = null;
  /** @type {Wait | null} Why nothing is asked at the moment. */
  wait = null;
  #turning = false;

  /**
   * @param {object} tell
   * @param {() => void} tell.news Something came, failed or begins.
   * @param {(lane: Lane) => void} tell.first The first of a lane's mask was drawn.
   * @param {() => void} tell.done Nothing is left to ask.
   */
  constructor(tell) {
    this.tell = tell;
  }

  /** @returns {Step | null} */
  next() {
    if (!this.subject?.ready) return null;
    const wanted = this.lanes.filter((each) => each.model && !each.failure);
    const lane = wanted.find((each) => !each.summary);
    if (lane) return { lane, what: "mask" };
    const unsure = this.shaded ? wanted.find((each) => !each.sure) : undefined;
    return unsure ? { lane: unsure, what: "confidence" } : null;
  }

  /** Whether all is here that is wanted. */
  get complete() {
    const answered = this.lanes.filter((each) => each.summary && !each.failure);
    return answered.length > 0 && answered.length === this.lanes.length && !this.next();
  }

  /** Looks again at what is wanted: ends what is not any more, and asks for the rest. */
  reconsider() {
    const { running } = this;
    const wanted =
      running &&
      running.subject === this.subject &&
      this.lanes.includes(running.lane) &&
      running.model === running.lane.model &&
      (running.what === "mask" || this.shaded);
    if (running && !wanted) running.abort.abort();
    this.#turn();
  }

  /** Asks now what waits or has failed. */
  again() {
    for (const lane of this.lanes) lane.failure = null;
    if (this.wait) this.wait.now();
    else this.reconsider();
  }

  async #turn() {
    if (this.#turning) return;
    this.#turning = true;
    for (let step = this.next(); step; step = this.next()) await this.#run(step);
    this.#turning = false;
    this.tell.done();
  }

  /** @param {Step} step */
  async #run({ lane, what }) {
    const subject = /** @type {Subject} */ (this.subject);
    const abort = new AbortController();
    this.running = { lane, what, subject, model: lane.model, abort };
    const { news } = this.tell;
    news();
    const first = () => this.tell.first(lane);
    const ask = () => {
      this.wait = null;
      news();
      return what === "mask"
        ? lane.segment(subject, { confidence: this.shaded, news, first }, abort.signal)
        : lane.ask(subject, { news }, abort.signal);
    };
    const wait = (/** @type {Wait} */ why) => {
      this.wait = why;
      news();
    };
    try {
      await persistently(ask, wait, abort.signal);
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error instanceof OtherPictureError) Object.assign(subject, { sent: true, complete: false });
      else lane.failure = error instanceof Error ? error : new Error(String(error));
    } finally {
      this.running = this.wait = null;
      news();
    }
  }
}
