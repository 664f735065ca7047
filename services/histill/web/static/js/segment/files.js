// What a file is, by its first bytes: names and media types are guesses of others.

import { bitmapOf, Picture } from "./pictures.js";
import { heldStep } from "./regions.js";

/** @typedef {import("./stream.js").Size} Size */

/**
 * What the head of a PNG or JPEG file tells.
 *
 * @typedef {object} Head
 * @property {Size} size
 * @property {[number, number][]} metadata Where a camera's words lie: first byte, and the next after.
 */

const HEAD = 1 << 18;
const [IDAT, EXIF, TRNS] = [0x49444154, 0x65584966, 0x74524e53];
const ALPHA = 4; // among the bits of a PNG's colour type
const APP1 = 0xe1;

/**
 * Whether a file is DICOM.
 *
 * @param {Blob} file
 */
export async function isDicom(file) {
  return (await file.slice(128, 132).text()) === "DICM";
}

/**
 * The picture of a PNG or JPEG file that is small enough to be held whole, as it is stored; it is
 * decoded while one goes on. `null` where the browser cannot show it, be it after all.
 *
 * @param {Blob} file
 * @returns {Promise<{picture: Promise<Picture | null>} | null>}
 */
export async function localPicture(file) {
  const bytes = new DataView(await file.slice(0, HEAD).arrayBuffer());
  const head = pngHead(bytes) ?? jpegHead(bytes);
  if (!head || heldStep(head.size) > 1) return null;
  return { picture: decoded(without(file, head.metadata)) };
}

/** @param {Blob} file */
async function decoded(file) {
  try {
    const bitmap = await bitmapOf(file);
    return new Picture({ width: bitmap.width, height: bitmap.height }, bitmap);
  } catch {
    return null; // The service may read what the browser cannot, and tells else what is wrong.
  }
}

/**
 * A file without some of its bytes. Browsers turn a picture as its metadata says, whatever they
 * are asked for; the service and its mask do not.
 *
 * @param {Blob} file
 * @param {[number, number][]} ranges
 */
function without(file, ranges) {
  const starts = [0, ...ranges.map(([, end]) => end)];
  const ends = [...ranges.map(([start]) => start), file.size];
  return new Blob(starts.map((start, index) => file.slice(start, ends[index])));
}

/**
 * @param {DataView} bytes
 * @returns {Head | null}
 */
function pngHead(bytes) {
  if (bytes.byteLength < 33 || bytes.getUint32(0) !== 0x89504e47) return null;
  /** @type {Head} */
  const head = { size: { width: bytes.getUint32(16), height: bytes.getUint32(20) }, metadata: [] };
  // Models see through no pixel, and deep greys stretched: what the browser shows would be another image.
  if (bytes.getUint8(24) > 8 || bytes.getUint8(25) & ALPHA) return null;
  for (let at = 8; at + 8 < bytes.byteLength; ) {
    const [end, kind] = [at + 12 + bytes.getUint32(at), bytes.getUint32(at + 4)];
    if (kind === TRNS) return null;
    if (kind === EXIF) head.metadata.push([at, end]);
    // What comes after the pixels is too late for a browser to heed, and too far to look for.
    if (kind === IDAT) break;
    at = end;
  }
  return head;
}

/**
 * @param {DataView} bytes
 * @returns {Head | null}
 */
function jpegHead(bytes) {
  if (bytes.byteLength < 4 || bytes.getUint16(0) !== 0xffd8) return null;
  /** @type {[number, number][]} */
  const metadata = [];
  for (let at = 2; at + 9 < bytes.byteLength; ) {
    if (bytes.getUint8(at) !== 0xff) return null;
    const kind = bytes.getUint8(at + 1);
    if (kind === 0xff) {
      at++; // Filling.
      continue;
    }
    const end = at + 2 + bytes.getUint16(at + 2);
    if (kind === APP1) metadata.push([at, end]);
    // Start of a frame, of any coding; C4, C8 and CC are none.
    if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) {
      return { size: { width: bytes.getUint16(at + 7), height: bytes.getUint16(at + 5) }, metadata };
    }
    at = end;
  }
  return null;
}
