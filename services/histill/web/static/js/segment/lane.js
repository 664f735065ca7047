// One stage with what one model says of the image.

import { agreement, Plane } from "./masks.js";
import { CLASSES, pixel } from "./paint.js";
import { Picture } from "./pictures.js";
import { bytesOf, segmentation } from "./stream.js";

/**
 * @typedef {import("./stage.js").Stage} Stage
 * @typedef {import("./stream.js").Summary} Summary
 * @typedef {import("./stream.js").Size} Size
 * @typedef {import("./choice.js").Served} Served
 */

/**
 * The image in work.
 *
 * @typedef {object} Subject
 * @property {File} file
 * @property {Record<string, string>} options Frame, level, size of a pixel.
 * @property {Picture | null} picture As far as it is there.
 * @property {boolean} ready Whether it is known where the picture comes from; before, nothing is asked.
 * @property {Promise<void> | null} coming Ends when the browser has decoded the picture.
 * @property {boolean} sent Whether the service has to send the picture.
 * @property {boolean} complete Whether all of the picture is there.
 */

/**
 * How all masks are shown.
 *
 * @typedef {{outline: boolean, shaded: boolean}} Wish
 */

export class Lane {
  /** @type {string} The model that is wanted; empty: none. */
  model = "";
  /** @type {Plane | null} */
  classes = null;
  /** @type {Plane | null} */
  confidences = null;
  /** @type {Summary | null} What was found, once all of it is here. */
  summary = null;
  /** Milliseconds from asking until the overlay was seen. */
  total = 0;
  progress = 0;
  /** @type {Error | null} Why there is no answer. */
  failure = null;
  /** Whether all confidences are here. */
  sure = false;
  /** @type {Set<number>} Classes that are not shown. */
  hidden = new Set();
  /** @type {Wish} */
  #wish = { outline: false, shaded: false };
  /** @type {Picture | null} What the stage shows. */
  #shown = null;

  /**
   * @param {Stage} stage
   * @param {(reference: string) => Served | undefined} served
   */
  constructor(stage, served) {
    this.stage = stage;
    this.served = served;
  }

  /** Forgets what was found; the picture stays. */
  forget() {
    this.classes?.close();
    this.confidences?.close();
    this.classes = this.confidences = this.summary = this.failure = null;
    this.sure = false;
    this.total = this.progress = 0;
    this.stage.show(null, null);
  }

  /** Forgets the image too. */
  clear() {
    this.forget();
    this.#shown = null;
    this.stage.close();
  }

  /**
   * Shows an image, if it does not do so already.
   *
   * @param {Picture} picture
   */
  open(picture) {
    if (this.#shown === picture) return;
    this.#shown = picture;
    this.stage.open(picture.size, picture);
    this.stage.show(this.classes, this.confidences);
  }

  /** @param {Wish} wish */
  look(wish) {
    this.#wish = wish;
    const colors = new Uint32Array(CLASSES);
    const hidden = new Uint8Array(CLASSES);
    const classes = this.summary?.classes ?? this.served(this.model)?.classes ?? [];
    for (const { index, color } of classes) {
      if (this.hidden.has(index)) hidden[index] = 1;
      else if (index) colors[index] = pixel(color);
    }
    const shaded = wish.shaded && this.confidences !== null;
    this.stage.look({ colors, hidden, outline: Number(wish.outline), shaded });
  }

  /**
   * Asks for the mask and shows it while it comes.
   *
   * @param {Subject} subject
   * @param {{confidence: boolean, news: () => void, first: () => void}} how
   * @param {AbortSignal} signal
   * @throws {ApiError}
   */
  async segment(subject, { confidence, news, first }, signal) {
    this.forget();
    const started = performance.now();
    const { file, options } = subject;
    const picture = subject.sent && !subject.complete;
    const question = { file, model: this.model, options, picture, confidence };
    for await (const line of segmentation(question, signal)) {
      signal.throwIfAborted();
      if (line.size) {
        await subject.coming;
        signal.throwIfAborted();
        this.#begin(subject, line.size, { confidence, first });
      }
      if (line.region) await this.#take(subject, line.region, picture);
      if (line.progress !== undefined) this.progress = line.progress;
      if (line.summary) {
        if (picture) subject.complete = true;
        this.sure = confidence;
        this.summary = line.summary;
      }
      news();
    }
    this.look(this.#wish);
    await this.stage.settled(signal);
    this.total = performance.now() - started;
  }

  /**
   * Asks how sure the model is, of a mask that is here.
   *
   * @param {Subject} subject
   * @param {{news: () => void}} how
   * @param {AbortSignal} signal
   * @throws {ApiError}
   */
  async ask({ file, options }, { news }, signal) {
    this.progress = 0;
    const confidences = new Plane(/** @type {Plane} */ (this.classes).size, 255);
    const question = { file, model: this.summary?.model ?? this.model, options, confidence: true };
    for await (const line of segmentation(question, signal)) {
      signal.throwIfAborted();
      const { region } = line;
      if (region?.confidence_map) await confidences.add(region, bytesOf(region.confidence_map));
      if (line.progress !== undefined) this.progress = line.progress;
      news();
    }
    this.confidences = confidences;
    this.sure = true;
    this.stage.shade(confidences);
    this.look(this.#wish);
    await this.stage.settled(signal);
  }

  /**
   * @param {Subject} subject
   * @param {Size} size
   * @param {{confidence: boolean, first: () => void}} how
   */
  #begin(subject, size, { confidence, first }) {
    const { picture } = subject;
    const fits = picture?.size.width === size.width && picture.size.height === size.height;
    if (subject.sent && !subject.complete) {
      // What came of an attempt that broke off stays in sight, and the reader where they are in it.
      if (!fits || picture.whole) {
        picture?.close();
        subject.picture = new Picture(size);
      }
    } else if (!fits) {
      // The browser and the service read different images in one file: what the model saw counts.
      throw new OtherPictureError();
    }
    this.classes = new Plane(size);
    if (confidence) this.confidences = new Plane(size, 255);
    this.open(/** @type {Picture} */ (subject.picture));
    this.stage.show(this.classes, this.confidences, first);
    this.look(this.#wish);
  }

  /**
   * @param {Subject} subject
   * @param {NonNullable<import("./stream.js").News["region"]>} region
   * @param {boolean} picture
   */
  async #take(subject, region, picture) {
    const parts = [this.classes?.add(region, bytesOf(region.mask))];
    if (this.confidences && region.confidence_map) {
      parts.push(this.confidences.add(region, bytesOf(region.confidence_map)));
    }
    if (picture && region.picture) parts.push(subject.picture?.add(region, bytesOf(region.picture)));
    await Promise.all(parts);
    this.stage.more();
  }

  /**
   * Share of the pixels of which two models say the same; `null` where they know no class in
   * common, or not the same pixels.
   *
   * @param {Lane} other
   */
  agreement(other) {
    const [ours, theirs] = [this.summary?.classes, other.summary?.classes];
    if (!ours || !theirs || !this.classes || !other.classes) return null;
    if (this.classes.held.length !== other.classes.held.length) return null;
    const names = new Map(ours.map(({ class_name, index }) => [class_name, index]));
    const same = new Int16Array(CLASSES).fill(-1);
    for (const { class_name, index } of theirs) {
      // The background is one, whatever it is called.
      same[index] = index ? (names.get(class_name) ?? -1) : 0;
    }
    if (!same.some((index) => index > 0)) return null;
    return { share: agreement(this.classes, other.classes, same), exact: this.classes.step === 1 };
  }
}

/** The picture on the stage is not what the service has read. */
export class OtherPictureError extends Error {}
