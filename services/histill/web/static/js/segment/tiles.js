// Tiles of a pyramid that is made while one looks at it: no server is asked for them.

import { canvas, contextOf } from "./pictures.js";

/**
 * @typedef {import("./regions.js").Grid} Grid
 * @typedef {import("./layers.js").Layer} Layer
 */

const SIDE = 512;
// Neighbours share a pixel on each side, so that no seam is seen between them.
const OVERLAP = 1;

/** A source of tiles for OpenSeadragon, which are drawn again when what they show is no longer true. */
export class Tiles extends OpenSeadragon.TileSource {
  /** @type {WeakMap<CanvasRenderingContext2D, Grid>} */
  #grids = new WeakMap();

  /**
   * @param {import("./stream.js").Size} size Of the image.
   * @param {number} detail Points a pixel has along each side at the finest level.
   * @param {Layer} layer What is shown.
   */
  constructor({ width, height }, detail, layer) {
    const [across, down] = [width * detail, height * detail];
    const maxLevel = Math.ceil(Math.log2(Math.max(across, down, 2)));
    // At the coarsest level the image fits one tile.
    const above = Math.max(0, Math.ceil(Math.log2(Math.max(across, down) / SIDE)));
    const minLevel = Math.max(0, maxLevel - above);
    super({ width: across, height: down, tileSize: SIDE, tileOverlap: OVERLAP, minLevel, maxLevel });
    this.detail = detail;
    this.layer = layer;
  }

  /** @override */
  getTileUrl() {
    return "";
  }

  /**
   * @override
   * @param {number} level
   * @param {number} x
   * @param {number} y
   */
  getTileHashKey(level, x, y) {
    const { _uniqueIdentifier } = /** @type {{_uniqueIdentifier?: string}} */ (/** @type {unknown} */ (this));
    return `${_uniqueIdentifier}:${level}/${x}_${y}`;
  }

  /** @override */
  hasTransparency() {
    return this.layer.transparent;
  }

  /**
   * @override
   * @param {OpenSeadragon.ImageJob} job
   */
  downloadTileStart(job) {
    const { level, x, y } = job.tile;
    const bounds = this.getTileBounds(level, x, y, true);
    const grid = {
      left: x ? x * SIDE - OVERLAP : 0,
      top: y ? y * SIDE - OVERLAP : 0,
      step: 2 ** (this.maxLevel - level) / this.detail,
      columns: Math.max(1, Math.ceil(bounds.width)),
      rows: Math.max(1, Math.ceil(bounds.height)),
    };
    const context = contextOf(canvas(grid.columns, grid.rows));
    this.#grids.set(context, grid);
    const finish = () => job.finish(context, null, "context2d");
    // Until it is sharp, coarser tiles stand in for it.
    const sharp = this.layer.freshen(context, grid);
    if (sharp) sharp.then(finish);
    else finish();
  }

  /** @override */
  downloadTileAbort() {}

  /**
   * Draws a tile anew if need be.
   *
   * @param {CanvasRenderingContext2D} context Of the tile.
   */
  freshen(context) {
    const grid = this.#grids.get(context);
    if (grid) this.layer.freshen(context, grid);
  }
}
