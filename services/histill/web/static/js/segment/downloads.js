// Masks as files.

import { ApiError } from "../api.js";
import { at, save } from "../dom.js";
import { size } from "../words.js";
import { address, send } from "./stream.js";

/**
 * What a mask is asked for.
 *
 * @typedef {object} Asked
 * @property {File} file
 * @property {string} model
 * @property {Record<string, string>} options
 */

/** @type {Record<string, {format: string, ending: string, name: string}>} By the button's id. */
const FORMATS = {
  "save-png": { format: "png", ending: ".mask.png", name: "PNG" },
  "save-geojson": { format: "geojson", ending: ".geojson", name: "GeoJSON" },
  "save-dicom-seg": { format: "dicom-seg", ending: ".seg.dcm", name: "DICOM SEG" },
};
const SHOWN_EVERY_MS = 200;

/** @type {Set<AbortController>} */
const running = new Set();

/**
 * Makes the buttons work.
 *
 * @param {() => Asked | null} asked What is asked for now.
 */
export function offerDownloads(asked) {
  for (const id of Object.keys(FORMATS)) {
    const button = at(id, HTMLButtonElement);
    button.addEventListener("click", () => {
      const now = asked();
      if (now && button.ariaBusy !== "true") fetchMask(button, now);
    });
  }
}

/**
 * @param {boolean} found Whether there is a mask.
 * @param {boolean} dicom Whether the image is DICOM.
 */
export function allowDownloads(found, dicom) {
  for (const id of Object.keys(FORMATS)) {
    at(id, HTMLButtonElement).disabled = !found || (id === "save-dicom-seg" && !dicom);
  }
  at("no-dicom-seg").hidden = !found || dicom;
}

/** Ends those that are on the way, of an image that is here no more. */
export function endDownloads() {
  for (const each of running) each.abort();
  tell("");
}

/**
 * @param {HTMLButtonElement} button
 * @param {Asked} asked
 */
async function fetchMask(button, { file, model, options }) {
  const { format, ending, name } = /** @type {typeof FORMATS[string]} */ (FORMATS[button.id]);
  const abort = new AbortController();
  running.add(abort);
  button.ariaBusy = "true";
  tell(`Making the ${name} file…`);
  try {
    const response = await send(address("/api/mask", { model, format, ...options }), file, abort.signal);
    const blob = await read(response, abort.signal, (bytes) => tell(`${name}: ${size(bytes)} so far…`));
    save(blob, file.name.replace(/\.[^.]*$/, "") + ending);
    tell(`${name} saved, ${size(blob.size)}.`);
  } catch (error) {
    if (!abort.signal.aborted) tell(`No ${name} file: ${reason(error)}`, true);
  } finally {
    running.delete(abort);
    button.ariaBusy = null;
  }
}

/**
 * @param {Response} response
 * @param {AbortSignal} signal
 * @param {(bytes: number) => void} progress
 */
async function read(response, signal, progress) {
  const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body).getReader();
  const parts = [];
  let bytes = 0;
  let told = performance.now();
  for (;;) {
    // What breaks off is no file: half a mask must not look like one.
    const { done, value } = await reader.read().catch((error) => {
      if (signal.aborted) throw error;
      throw new ApiError("the connection broke off. Try again.");
    });
    if (done) break;
    parts.push(value);
    bytes += value.length;
    if (performance.now() - told < SHOWN_EVERY_MS) continue;
    told = performance.now();
    progress(bytes);
  }
  return new Blob(parts, { type: response.headers.get("Content-Type") ?? "" });
}

/** @param {unknown} error */
function reason(error) {
  if (!(error instanceof ApiError)) return String(error);
  return [error.message, error.hint].filter(Boolean).join(" ");
}

/**
 * @param {string} words
 * @param {boolean} [bad]
 */
function tell(words, bad = false) {
  at("saving").textContent = words;
  at("saving").classList.toggle("bad", bad);
}
