// What the tiles of a stage show: the picture below, the mask above it.

import { MARGIN, paint } from "./paint.js";

/**
 * @typedef {import("./regions.js").Grid} Grid
 * @typedef {import("./masks.js").Plane} Plane
 * @typedef {import("./pictures.js").Picture} Picture
 * @typedef {import("./paint.js").Look} Look
 */

/**
 * Something that tiles show.
 *
 * @typedef {object} Layer
 * @property {(context: CanvasRenderingContext2D, grid: Grid) => void | Promise<void>} freshen Draws a
 *   tile anew if it no longer shows what it should; a promise is kept once it is sharp.
 * @property {number} waiting Number of tiles that are not sharp yet.
 * @property {boolean} transparent
 */

/** Calls back when what was drawn coarsely has become sharp. */
class Later {
  waiting = 0;

  /** @param {() => void} redraw */
  constructor(redraw) {
    this.redraw = redraw;
  }

  /** @param {Promise<void>[]} works */
  async track(works) {
    this.waiting++;
    // A region that cannot be decoded leaves its place as coarse as it is.
    await Promise.allSettled(works);
    this.waiting--;
    this.redraw();
  }
}

/** The picture. */
export class PictureLayer extends Later {
  transparent = false;
  /** @type {Picture | null} */
  picture = null;
  /** @type {WeakMap<CanvasRenderingContext2D, {picture: Picture, revision: number}>} */
  #drawn = new WeakMap();

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Grid} grid
   * @returns {void | Promise<void>}
   */
  freshen(context, grid) {
    const { picture } = this;
    if (!picture) return;
    const drawn = this.#drawn.get(context);
    const known = drawn?.picture === picture;
    if (known && !picture.changed(drawn.revision, grid)) return;
    this.#drawn.set(context, { picture, revision: picture.revision });
    if (grid.step >= picture.step) {
      picture.draw(context, grid);
      return;
    }
    if (!known) picture.draw(context, grid);
    return this.track([picture.drawExact(context, grid)]);
  }
}

/** Values of a plane at the points of a tile and around it. */
class Reading {
  /** @type {Uint8Array | null} Those that were costly to get; others are read again. */
  #values = null;
  /** @type {Plane | null} */
  #plane = null;
  #revision = 0;
  /** Whether the values are others than those that were painted last. */
  fresh = false;

  /** @param {Grid} grid */
  values(grid) {
    return this.#values ?? this.#plane?.values(grid) ?? null;
  }

  /**
   * Reads again what has changed.
   *
   * @param {Plane | null} plane
   * @param {Grid} grid
   * @returns {Promise<void>[]} What is to be waited for until the values are sharp.
   */
  renew(plane, grid) {
    const same = plane === this.#plane;
    if (same && !plane?.changed(this.#revision, grid)) return [];
    this.#plane = plane;
    this.#revision = plane?.revision ?? 0;
    const sharp = !plane || grid.step >= plane.step;
    // What is sharp already stays until it is so again: no flicker while a slide comes.
    if (sharp || !same) this.#take(null);
    return sharp ? [] : [this.#sharpen(plane, grid)];
  }

  /**
   * @param {Plane} plane
   * @param {Grid} grid
   */
  async #sharpen(plane, grid) {
    const revision = this.#revision;
    const values = await plane.exact(grid);
    if (plane === this.#plane && revision === this.#revision) this.#take(values);
  }

  /** @param {Uint8Array | null} values */
  #take(values) {
    this.#values = values;
    this.fresh = true;
  }
}

/** The mask. */
export class MaskLayer extends Later {
  transparent = true;
  /** @type {Plane | null} */
  classes = null;
  /** @type {Plane | null} */
  confidences = null;
  /** @type {Look | null} */
  look = null;
  /** Whether something of the present mask was painted. */
  painted = false;
  /** @type {WeakMap<CanvasRenderingContext2D, {classes: Reading, sure: Reading, look: Look | null}>} */
  #tiles = new WeakMap();

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Grid} grid
   * @returns {void | Promise<void>}
   */
  freshen(context, grid) {
    const tile = this.#tiles.get(context) ?? {
      classes: new Reading(),
      sure: new Reading(),
      look: null,
    };
    this.#tiles.set(context, tile);
    const around = {
      ...grid,
      left: grid.left - MARGIN,
      top: grid.top - MARGIN,
      columns: grid.columns + 2 * MARGIN,
      rows: grid.rows + 2 * MARGIN,
    };
    const works = [
      ...tile.classes.renew(this.classes, around),
      ...tile.sure.renew(this.look?.shaded ? this.confidences : null, around),
    ];
    const stale = tile.classes.fresh || tile.sure.fresh || tile.look !== this.look;
    if (stale) this.#paint(context, grid, around, tile);
    return works.length ? this.track(works) : undefined;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Grid} grid
   * @param {Grid} around
   * @param {{classes: Reading, sure: Reading, look: Look | null}} tile
   */
  #paint(context, grid, around, tile) {
    tile.classes.fresh = tile.sure.fresh = false;
    tile.look = this.look;
    const image = context.createImageData(grid.columns, grid.rows);
    const classes = tile.classes.values(around);
    if (classes && tile.look) {
      paint(image, grid, classes, tile.sure.values(around), tile.look);
      if (this.classes?.revision) this.painted = true;
    }
    context.putImageData(image, 0, 0);
  }
}
