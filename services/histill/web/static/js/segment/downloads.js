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
 * @property {boolean} several Whether other models' masks of the image may be saved too.
 */

/** @type {Record<string, {format: string, ending: string, name: string}>} By the button's id before the suffix. */
const FORMATS = {
  "save-png": { format: "png", ending: ".mask.png", name: "PNG" },
  "save-geojson": { format: "geojson", ending: ".geojson", name: "GeoJSON" },
  "save-dicom-seg": { format: "dicom-seg", ending: ".seg.dcm", name: "DICOM SEG" },
};
const SHOWN_EVERY_MS = 200;

/** The buttons beside what one model has found. */
export class Downloads {
  /** @type {Set<AbortController>} */
  #running = new Set();

  /**
   * @param {string} suffix Of the ids of its elements: "" or "-b".
   * @param {() => Asked | null} asked What is asked for now.
   */
  constructor(suffix, asked) {
    this.suffix = suffix;
    for (const [id, format] of Object.entries(FORMATS)) {
      const button = at(id + suffix, HTMLButtonElement);
      button.addEventListener("click", () => {
        const now = asked();
        if (now && button.ariaBusy !== "true") this.#fetch(button, format, now);
      });
    }
  }

  /**
   * @param {boolean} found Whether there is a mask.
   * @param {boolean} dicom Whether the image is DICOM.
   */
  allow(found, dicom) {
    for (const [id, { format }] of Object.entries(FORMATS)) {
      at(id + this.suffix, HTMLButtonElement).disabled = !found || (format === "dicom-seg" && !dicom);
    }
    at(`no-dicom-seg${this.suffix}`).hidden = !found || dicom;
  }

  /** Ends those that are on the way, of an image that is here no more. */
  end() {
    for (const each of this.#running) each.abort();
    this.#tell("");
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {typeof FORMATS[string]} as
   * @param {Asked} asked
   */
  async #fetch(button, { format, ending, name }, { file, model, options, several }) {
    const abort = new AbortController();
    this.#running.add(abort);
    button.ariaBusy = "true";
    this.#tell(`Making the ${name} file…`);
    try {
      const response = await send(address("/api/mask", { model, format, ...options }), file, abort.signal);
      const progress = (/** @type {number} */ bytes) => this.#tell(`${name}: ${size(bytes)} so far…`);
      const blob = await read(response, abort.signal, progress);
      const parts = [file.name.replace(/\.[^.]*$/, ""), ...(several ? [plain(model)] : [])];
      save(blob, parts.join(".") + ending);
      this.#tell(`${name} saved, ${size(blob.size)}.`);
    } catch (error) {
      if (!abort.signal.aborted) this.#tell(`No ${name} file: ${reason(error)}`, true);
    } finally {
      this.#running.delete(abort);
      button.ariaBusy = null;
    }
  }

  /**
   * @param {string} words
   * @param {boolean} [bad]
   */
  #tell(words, bad = false) {
    const place = at(`saving${this.suffix}`);
    place.textContent = words;
    place.classList.toggle("bad", bad);
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
 * A model's name as every file system takes it.
 *
 * @param {string} reference
 */
function plain(reference) {
  return reference.replace(/[^A-Za-z0-9_.-]+/g, "-");
}
