// The image itself: the file's own pixels where the browser can read them, else what the
// service sends.

import { heldStep, Regions, touches } from "./regions.js";

/**
 * @typedef {import("./stream.js").Place} Place
 * @typedef {import("./stream.js").Size} Size
 * @typedef {import("./regions.js").Grid} Grid
 */

// Like the mask: as stored, not in other colours.
/** @type {ImageBitmapOptions} */
const AS_STORED = { colorSpaceConversion: "none" };
const MOST_DECODED = 1 << 24;

/** @param {Blob} file */
export function bitmapOf(file) {
  return createImageBitmap(file, AS_STORED);
}

/** Pixels of an image; of a large one every few, and the rest on demand. */
export class Picture {
  /** @type {Place[]} What has come, in that order. */
  #came = [];
  /** @type {Regions<ImageBitmap>} */
  #regions = new Regions(bitmapOf, MOST_DECODED, (bitmap) => bitmap.close());
  /** @type {ImageBitmap | HTMLCanvasElement} */
  #held;

  /**
   * @param {Size} size
   * @param {ImageBitmap} [bitmap] All of it, where it is there already.
   */
  constructor(size, bitmap) {
    this.size = size;
    this.whole = bitmap !== undefined;
    this.step = bitmap ? 1 : heldStep(size);
    this.#held = bitmap ?? canvas(Math.ceil(size.width / this.step), Math.ceil(size.height / this.step));
  }

  /** Number of regions that have come. */
  get revision() {
    return this.#came.length;
  }

  /**
   * Whether points of a grid have come since a revision.
   *
   * @param {number} revision
   * @param {Grid} grid
   */
  changed(revision, grid) {
    return this.#came.slice(revision).some((place) => touches(grid, place));
  }

  /**
   * Takes a region.
   *
   * @param {Place} place
   * @param {Uint8Array<ArrayBuffer>} jpeg
   */
  async add(place, jpeg) {
    const data = new Blob([jpeg], { type: "image/jpeg" });
    const bitmap = await bitmapOf(data);
    const context = contextOf(/** @type {HTMLCanvasElement} */ (this.#held));
    // Whole pixels: half-covered ones would show as seams.
    const [left, top, right, bottom] = [
      place.column,
      place.row,
      place.column + place.width,
      place.row + place.height,
    ].map((each) => Math.round(each / this.step));
    const [x, y] = [left ?? 0, top ?? 0];
    context.drawImage(bitmap, x, y, (right ?? 0) - x, (bottom ?? 0) - y);
    bitmap.close();
    if (this.step > 1) this.#regions.add(place, data);
    this.#came.push(place);
  }

  /**
   * Draws the points of a grid; sharp where the grid's step is not below ours.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Grid} grid
   */
  draw(context, { left, top, step, columns, rows }) {
    const scale = step / this.step;
    context.clearRect(0, 0, columns, rows);
    context.imageSmoothingEnabled = scale !== 1;
    context.imageSmoothingQuality = "high";
    const [x, y, width, height] = [left * scale, top * scale, columns * scale, rows * scale];
    context.drawImage(this.#held, x, y, width, height, 0, 0, columns, rows);
  }

  /**
   * Draws the points of a grid, sharp whatever its step.
   *
   * @param {CanvasRenderingContext2D} context
   * @param {Grid} grid
   */
  async drawExact(context, grid) {
    const { left, top, step, columns, rows } = grid;
    const whole = contextOf(canvas(columns, rows));
    this.draw(whole, grid);
    for await (const { place, value } of this.#regions.within(grid)) {
      const [x, y] = [place.column / step - left, place.row / step - top];
      whole.imageSmoothingEnabled = step !== 1;
      whole.drawImage(value, x, y, place.width / step, place.height / step);
    }
    context.clearRect(0, 0, columns, rows);
    context.drawImage(whole.canvas, 0, 0);
  }

  /** Lets go of what it holds. */
  close() {
    this.#regions.close();
    if (this.#held instanceof ImageBitmap) this.#held.close();
    else this.#held.width = this.#held.height = 0;
  }
}

/**
 * @param {number} width
 * @param {number} height
 */
export function canvas(width, height) {
  const made = document.createElement("canvas");
  made.width = width;
  made.height = height;
  return made;
}

/** @param {HTMLCanvasElement} of */
export function contextOf(of) {
  return /** @type {CanvasRenderingContext2D} */ (of.getContext("2d"));
}
