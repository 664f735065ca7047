// Asks for a segmentation and reads the answer line by line, as it comes.

import { answer, ApiError, refusal } from "../api.js";

/**
 * @typedef {{row: number, column: number, height: number, width: number}} Place
 * @typedef {{height: number, width: number}} Size
 */

/**
 * What is asked about an image.
 *
 * @typedef {object} Question
 * @property {Blob} file
 * @property {string} model Its reference.
 * @property {Record<string, string>} options "frame", "level", "pixel_size_um" where they are set.
 * @property {boolean} [picture] Whether the service shall send what the model saw.
 * @property {boolean} [confidence] Whether it shall send how sure the model is.
 */

/**
 * A class of the summary.
 *
 * @typedef {object} ClassFound
 * @property {number} index
 * @property {string} class_name
 * @property {number} pixels
 * @property {number} area_mm2 0 where it is not known.
 * @property {number} objects
 * @property {number} mean_confidence
 * @property {number[]} color
 */

/**
 * @typedef {object} Summary
 * @property {string} model The version that answered.
 * @property {number} height
 * @property {number} width
 * @property {ClassFound[]} classes
 * @property {number} mean_confidence
 * @property {{decode_ms: number, queue_ms: number, compute_ms: number, encode_ms: number}} times
 * @property {boolean} [out_of_distribution]
 */

/**
 * A line of the answer; exactly one of its fields is there.
 *
 * @typedef {object} News
 * @property {Size} [size]
 * @property {number} [progress] Share of the image that is done.
 * @property {Place & {mask: string, picture?: string, confidence_map?: string}} [region]
 * @property {Summary} [summary]
 */

// Of errors that come after the answer has begun, when no HTTP status can be told any more.
/** @type {Record<string, number>} */
const STATUSES = { UnavailableError: 503, DeadlineExceededError: 504, UnauthenticatedError: 401 };

/**
 * Where to ask.
 *
 * @param {string} path
 * @param {Record<string, string>} asked What is empty is left out.
 */
export function address(path, asked) {
  const set = Object.entries(asked).filter(([, value]) => value !== "");
  return `${path}?${new URLSearchParams(Object.fromEntries(set))}`;
}

/**
 * The answer, line by line; the last one is the summary.
 *
 * @param {Question} question
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<News>}
 * @throws {ApiError}
 */
export async function* segmentation(question, signal) {
  const path = address("/api/segment", {
    model: question.model,
    ...question.options,
    picture: question.picture ? "1" : "",
    confidence_map: question.confidence ? "1" : "",
  });
  const response = await send(path, question.file, signal);
  let whole = false;
  for await (const line of lines(response, signal)) {
    const news = JSON.parse(line);
    if (news.error) throw refusal(STATUSES[news.error.kind] ?? 400, news);
    whole = news.summary !== undefined;
    yield news;
  }
  if (!whole) throw new ApiError("The answer broke off.", { status: 502 });
}

/**
 * Sends a file as it is.
 *
 * @param {string} path
 * @param {Blob} file
 * @param {AbortSignal} signal
 * @returns {Promise<Response>}
 * @throws {ApiError}
 */
export async function send(path, file, signal) {
  const headers = { "Content-Type": "application/octet-stream" };
  try {
    return await answer(path, { method: "POST", body: file, headers, signal });
  } catch (error) {
    // A browser tells a file that it cannot read and a server that it cannot reach alike.
    if (error instanceof ApiError && error.status === 0) await readable(file);
    throw error;
  }
}

/** @param {Blob} file */
async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    const words = "The file cannot be read: it is a folder, or it has changed or gone since it was chosen.";
    throw new ApiError(words, { status: 400, hint: "Choose it again." });
  }
}

/**
 * @param {Response} response
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<string>}
 */
async function* lines(response, signal) {
  const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body)
    .pipeThrough(new TextDecoderStream())
    .getReader();
  /** @type {string[]} Pieces of a line whose end has not come yet. */
  let begun = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const [first = "", ...others] = value.split("\n");
      begun.push(first);
      for (const next of others) {
        const line = begun.join("");
        begun = [next];
        if (line.trim()) yield line;
      }
    }
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError("The connection broke off.", { status: 0 });
  } finally {
    reader.cancel().catch(() => {});
  }
  const last = begun.join("");
  if (last.trim()) yield last;
}

/**
 * @param {string} base64
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
