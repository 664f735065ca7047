// Colours a mask.

/**
 * How a mask is shown.
 *
 * @typedef {object} Look
 * @property {Uint32Array} colors Of each class, as pixels of a canvas; 0: it is not shown.
 * @property {Uint8Array} hidden 1 for each class that somebody does not want to see.
 * @property {number} outline Width of outlines in points; 0 fills the classes.
 * @property {boolean} shaded Whether to show where the model is unsure.
 */

/** Classes that can be: a mask has one byte a pixel. */
export const CLASSES = 256;
/** Widest outline. */
export const MARGIN = 4;
/** Below this confidence a pixel is hatched. */
export const UNSURE = 0.7;

const OPAQUE = 0xff000000;
const INK = 0xc8281414; // dark, a little of what is below shows through
const FAINTEST = 0.2;
// How opaque a pixel of each confidence is: one that the model merely guessed is faint.
const FADES = Uint32Array.from({ length: 256 }, (_, value) => {
  const sure = Math.max(0, (value / 255 - 0.5) / 0.5);
  return Math.round(255 * (FAINTEST + (1 - FAINTEST) * sure)) << 24;
});

/**
 * A pixel of a canvas.
 *
 * @param {number[]} color Red, green, blue.
 */
export function pixel([red = 0, green = 0, blue = 0]) {
  return (OPAQUE | (blue << 16) | (green << 8) | red) >>> 0;
}

/**
 * Colours the points of a grid.
 *
 * @param {ImageData} image Of the grid's columns and rows.
 * @param {import("./regions.js").Grid} grid
 * @param {Uint8Array} classes Of the grid and `MARGIN` points around it.
 * @param {Uint8Array | null} confidences Of the same points, times 255.
 * @param {Look} look
 */
export function paint(image, grid, classes, confidences, look) {
  const pixels = new Uint32Array(image.data.buffer);
  const line = grid.columns + 2 * MARGIN;
  const reach = look.outline ? [1, line, -1, -line] : [];
  const shades = look.shaded ? confidences : null;
  let to = 0;
  for (let row = 0; row < grid.rows; row++) {
    let from = (row + MARGIN) * line + MARGIN;
    for (let column = 0; column < grid.columns; column++, from++, to++) {
      const found = /** @type {number} */ (classes[from]);
      let shown = /** @type {number} */ (look.colors[found]);
      if (shown && look.outline && !atEdge(classes, from, found, reach, look.outline)) shown = 0;
      if (shades) {
        const sure = /** @type {number} */ (shades[from]);
        if (shown) shown = (shown & 0xffffff) | /** @type {number} */ (FADES[sure]);
        const striped = ((grid.left + column + grid.top + row) & 7) < 2;
        if (striped && sure < 255 * UNSURE && !look.hidden[found]) shown = INK;
      }
      pixels[to] = shown;
    }
  }
}

/**
 * @param {Uint8Array} classes
 * @param {number} from
 * @param {number} found
 * @param {number[]} reach
 * @param {number} width
 */
function atEdge(classes, from, found, reach, width) {
  for (const one of reach) {
    for (let far = 1; far <= width; far++) {
      if (classes[from + one * far] !== found) return true;
    }
  }
  return false;
}
