// Reads the values of indexed and grey PNG files.
//
// Not through a canvas: browsers that guard against fingerprints change what one reads back
// from it, and a class would become another.

const SIGNATURE = 8;
const KINDS = [0, 3]; // grey, indexed

/**
 * Values of an 8-bit PNG of one channel, row by row: indices into the palette, or greys.
 *
 * @param {Uint8Array<ArrayBuffer>} file
 * @returns {Promise<Uint8Array<ArrayBuffer>>} height * width values.
 * @throws {Error} It is another PNG, or none.
 */
export async function pngValues(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(SIGNATURE + 4) !== 0x49484452) throw new Error("not a PNG file");
  const width = view.getUint32(16);
  const height = view.getUint32(20);
  const [depth, kind, , , interlaced] = file.subarray(24, 29);
  if (depth !== 8 || !KINDS.includes(kind ?? -1) || interlaced) {
    throw new Error("not an 8-bit PNG of one channel");
  }
  const lines = await inflate(dataOf(file, view));
  return unfilter(lines, width, height);
}

/**
 * @param {Uint8Array<ArrayBuffer>} file
 * @param {DataView} view
 */
function dataOf(file, view) {
  const parts = [];
  for (let at = SIGNATURE; at < file.length; ) {
    const size = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) parts.push(file.subarray(at + 8, at + 8 + size));
    at += size + 12;
  }
  return parts;
}

/** @param {Uint8Array<ArrayBuffer>[]} parts */
async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Takes filters back, as the PNG specification has them.
 *
 * @param {Uint8Array<ArrayBuffer>} lines Each begins with its filter.
 * @param {number} width
 * @param {number} height
 */
function unfilter(lines, width, height) {
  const values = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const from = row * (width + 1);
    const to = row * width;
    const filter = lines[from] ?? 0;
    values.set(lines.subarray(from + 1, from + 1 + width), to);
    if (filter === 0) continue;
    for (let column = 0; column < width; column++) {
      const left = column ? /** @type {number} */ (values[to + column - 1]) : 0;
      const above = row ? /** @type {number} */ (values[to - width + column]) : 0;
      const corner = row && column ? /** @type {number} */ (values[to - width + column - 1]) : 0;
      values[to + column] = /** @type {number} */ (values[to + column]) + guess(filter, left, above, corner);
    }
  }
  return values;
}

/**
 * @param {number} filter
 * @param {number} left
 * @param {number} above
 * @param {number} corner
 */
function guess(filter, left, above, corner) {
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const sum = left + above - corner;
  const [a, b, c] = [Math.abs(sum - left), Math.abs(sum - above), Math.abs(sum - corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}
