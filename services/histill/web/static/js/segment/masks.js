// Values of an image's pixels – classes, or how sure the model is – as they come.

import { pngValues } from "./png.js";
import { heldStep, Regions, touches } from "./regions.js";

/**
 * @typedef {import("./stream.js").Place} Place
 * @typedef {import("./stream.js").Size} Size
 * @typedef {import("./regions.js").Grid} Grid
 */

const MOST_DECODED = 1 << 26;

/** One value a pixel, in [0, 255]; of a large image every few pixels, and the rest on demand. */
export class Plane {
  /** @type {Place[]} What has come, in that order. */
  #came = [];
  /** @type {Regions<Uint8Array<ArrayBuffer>>} */
  #regions = new Regions(async (png) => pngValues(new Uint8Array(await png.arrayBuffer())), MOST_DECODED);

  /**
   * @param {Size} size
   * @param {number} [value] Of pixels that have not come yet.
   */
  constructor(size, value = 0) {
    this.size = size;
    this.step = heldStep(size);
    this.width = Math.ceil(size.width / this.step);
    this.held = new Uint8Array(this.width * Math.ceil(size.height / this.step)).fill(value);
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
    for (let i = revision; i < this.#came.length; i++) {
      if (touches(grid, /** @type {Place} */ (this.#came[i]))) return true;
    }
    return false;
  }

  /**
   * Takes a region.
   *
   * @param {Place} place
   * @param {Uint8Array<ArrayBuffer>} png
   */
  async add(place, png) {
    const values = await pngValues(png);
    if (this.step === 1) {
      for (let row = 0; row < place.height; row++) {
        const line = values.subarray(row * place.width, (row + 1) * place.width);
        this.held.set(line, (place.row + row) * this.width + place.column);
      }
    } else {
      this.#hold(place, values);
      this.#regions.add(place, new Blob([png]));
    }
    this.#came.push(place);
  }

  /**
   * @param {Place} place
   * @param {Uint8Array} values
   */
  #hold({ row, column, height, width }, values) {
    const { step } = this;
    // The middle one of the pixels that a held one stands for.
    const middle = (/** @type {number} */ index, /** @type {number} */ length) =>
      Math.min(index * step + (step >> 1), length - 1);
    for (let y = Math.floor(row / step); y * step < row + height; y++) {
      const from = middle(y, this.size.height) - row;
      if (from < 0 || from >= height) continue;
      for (let x = Math.floor(column / step); x * step < column + width; x++) {
        const at = middle(x, this.size.width) - column;
        if (at < 0 || at >= width) continue;
        this.held[y * this.width + x] = /** @type {number} */ (values[from * width + at]);
      }
    }
  }

  /**
   * Values at the points of a grid; at those beyond the image the nearest ones. They are exact
   * where the grid's step is not below ours.
   *
   * @param {Grid} grid
   */
  values(grid) {
    const { held, width } = this;
    const across = indices(grid.left, grid.columns, grid.step / this.step, width);
    const down = indices(grid.top, grid.rows, grid.step / this.step, held.length / width);
    const found = new Uint8Array(grid.columns * grid.rows);
    let to = 0;
    for (const row of down) {
      const from = row * width;
      for (let i = 0; i < across.length; i++) {
        found[to++] = /** @type {number} */ (held[from + /** @type {number} */ (across[i])]);
      }
    }
    return found;
  }

  /**
   * Exact values at the points of a grid, whatever its step; where nothing has come, those that
   * `values` gives.
   *
   * @param {Grid} grid
   */
  async exact(grid) {
    const found = this.values(grid);
    const across = indices(grid.left, grid.columns, grid.step, this.size.width);
    const down = indices(grid.top, grid.rows, grid.step, this.size.height);
    for await (const { place, value } of this.#regions.within(grid)) {
      for (let row = 0; row < grid.rows; row++) {
        const y = /** @type {number} */ (down[row]) - place.row;
        if (y < 0 || y >= place.height) continue;
        for (let column = 0; column < grid.columns; column++) {
          const x = /** @type {number} */ (across[column]) - place.column;
          if (x < 0 || x >= place.width) continue;
          found[row * grid.columns + column] = /** @type {number} */ (value[y * place.width + x]);
        }
      }
    }
    return found;
  }

  /** Lets go of what it holds. */
  close() {
    this.#regions.close();
  }
}

/**
 * Which of `length` pixels each of `count` points stands for.
 *
 * @param {number} first
 * @param {number} count
 * @param {number} step
 * @param {number} length
 */
function indices(first, count, step, length) {
  const found = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    found[i] = Math.max(0, Math.min(length - 1, Math.floor((first + i + 0.5) * step)));
  }
  return found;
}

/**
 * Share of the held pixels of which two masks say the same.
 *
 * @param {Plane} one
 * @param {Plane} other Of the same size.
 * @param {ArrayLike<number>} same The class of `one` that each class of `other` is; -1: none.
 */
export function agreement(one, other, same) {
  let agreed = 0;
  for (let i = 0; i < one.held.length; i++) {
    if (one.held[i] === same[/** @type {number} */ (other.held[i])]) agreed++;
  }
  return agreed / one.held.length;
}
