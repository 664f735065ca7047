// Parts of an image as they came, compressed, and decoded when they are looked at.

/**
 * @typedef {import("./stream.js").Place} Place
 * @typedef {import("./stream.js").Size} Size
 */

/**
 * A grid of points over an image: those of a tile. A step is the side of the square that a
 * point stands for, in the image's pixels; below 1 where a pixel has several points.
 *
 * @typedef {object} Grid
 * @property {number} left First column, in steps.
 * @property {number} top First row, in steps.
 * @property {number} step
 * @property {number} columns
 * @property {number} rows
 */

// Largest image that is held pixel by pixel: of larger ones every second, fourth… pixel is.
const MOST_HELD = 1 << 24;
// Browsers draw nothing on canvases with longer sides.
const LONGEST = 1 << 14;

/**
 * Step at which an image is held as a whole: 1, 2, 4…
 *
 * @param {Size} size
 */
export function heldStep({ width, height }) {
  let step = 1;
  const side = Math.max(width, height);
  while (Math.ceil(width / step) * Math.ceil(height / step) > MOST_HELD || side / step > LONGEST) step *= 2;
  return step;
}

/**
 * Whether a grid has points in a rectangle.
 *
 * @param {Grid} grid
 * @param {Place} place
 */
export function touches({ left, top, step, columns, rows }, { row, column, height, width }) {
  return (
    left * step < column + width &&
    (left + columns) * step > column &&
    top * step < row + height &&
    (top + rows) * step > row
  );
}

/**
 * Compressed parts of an image; those that were looked at last are held decoded, and those that
 * somebody looks at.
 *
 * @template T
 */
export class Regions {
  /** @type {Map<string, {place: Place, data: Blob}>} By their places: what comes again replaces. */
  #all = new Map();
  /**
   * The one that was used last is last.
   *
   * @type {Map<Blob, {value: Promise<T>, pixels: number, users: number}>}
   */
  #decoded = new Map();
  #pixels = 0;

  /**
   * @param {(data: Blob) => Promise<T>} decode
   * @param {number} most Pixels that are held decoded while nobody looks at them.
   * @param {(value: T) => void} [release]
   */
  constructor(decode, most, release = () => {}) {
    this.decode = decode;
    this.most = most;
    this.release = release;
  }

  /**
   * @param {Place} place
   * @param {Blob} data
   */
  add(place, data) {
    const { row, column, height, width } = place;
    this.#all.set([row, column, height, width].join(), { place, data });
  }

  /**
   * The parts in which a grid has points, decoded one after the other; each stays so until the next.
   *
   * @param {Grid} grid
   * @returns {AsyncGenerator<{place: Place, value: T}>}
   */
  async *within(grid) {
    for (const { place, data } of [...this.#all.values()].filter((each) => touches(grid, each.place))) {
      const held = this.#get(place, data);
      held.users++;
      try {
        yield { place, value: await held.value };
      } finally {
        held.users--;
        this.#trim();
      }
    }
  }

  /**
   * @param {Place} place
   * @param {Blob} data
   */
  #get(place, data) {
    const pixels = place.height * place.width;
    const held = this.#decoded.get(data) ?? { value: this.decode(data), pixels, users: 0 };
    if (!this.#decoded.delete(data)) this.#pixels += held.pixels;
    this.#decoded.set(data, held);
    return held;
  }

  #trim() {
    for (const [data, { value, pixels, users }] of this.#decoded) {
      if (this.#pixels <= this.most) break;
      if (users) continue;
      this.#decoded.delete(data);
      this.#pixels -= pixels;
      value.then(this.release, () => {});
    }
  }

  /** Lets go of all, at last of what somebody still looks at. */
  close() {
    this.#all.clear();
    this.most = 0;
    this.#trim();
  }
}
