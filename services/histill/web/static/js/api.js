// Asks the page's server, and tells refusals as errors with words for people.

import { SERVER_AWAY, connection, doubt, find, lose, partOf } from "./lost.js";

export { connection };

const SLOW_MS = 4000;

/** What the server refused, or why it could not be asked. */
export class ApiError extends Error {
  /**
   * @param {string} message For people.
   * @param {object} [details]
   * @param {number} [details.status] HTTP's; 0 when the server was not reached.
   * @param {string} [details.kind] Name of the error, such as "InvalidArgumentError".
   * @param {{field: string, message: string}[]} [details.fields] What is wrong in which field.
   * @param {string} [details.hint] What helps.
   * @param {number} [details.retryAfter] Seconds after which it may be asked again; 0 when not told.
   */
  constructor(message, { status = 0, kind = "Unreachable", fields = [], hint = "", retryAfter = 0 } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.kind = kind;
    this.fields = fields;
    this.hint = hint;
    this.retryAfter = retryAfter;
  }

  /** Whether the same question may be answered in a while. */
  get passes() {
    return this.status === 0 || [429, 502, 503, 504].includes(this.status);
  }
}

/**
 * An answer of the server, whatever its body.
 *
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 * @throws {ApiError}
 */
export async function answer(path, options = {}) {
  let response;
  const slow = setTimeout(doubt, SLOW_MS);
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    lose("server", SERVER_AWAY);
    throw new ApiError(SERVER_AWAY);
  } finally {
    clearTimeout(slow);
  }
  if (response.ok) {
    find("server");
    find(partOf(path));
    return response;
  }
  const body = await response.json().catch(() => null);
  const error = refusal(response.status, body, response.headers);
  // A gateway before our server answers for it, without our words.
  const part = body?.error || ![502, 503, 504].includes(error.status) ? partOf(path) : "server";
  if (part !== "server") find("server");
  if (error.status === 401) connection.dispatchEvent(new CustomEvent("signed-out", { detail: path }));
  if ([502, 503, 504].includes(error.status)) lose(part, error.message);
  else find(part);
  throw error;
}

/**
 * The JSON of an answer.
 *
 * @param {string} path
 * @param {Omit<RequestInit, "body"> & {json?: unknown, body?: BodyInit}} [options] `json` is sent
 *   as the body.
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function ask(path, { json, ...options } = {}) {
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers = { "Content-Type": "application/json", ...options.headers };
  }
  const response = await answer(path, options);
  if (response.status === 204) return null;
  return response.json().catch((error) => {
    if (options.signal?.aborted) throw error;
    throw new ApiError("The answer broke off.");
  });
}

/**
 * The error that an answer's body tells.
 *
 * @param {number} status
 * @param {any} body {"error": {kind, message, fields, hint}}
 * @param {Headers} [headers] Of the answer: Retry-After.
 */
export function refusal(status, body, headers) {
  const { message, kind, fields, hint } = body?.error ?? {};
  const retryAfter = Number(headers?.get("Retry-After")) || 0;
  const words = message ?? `The server answered ${status}.`;
  return new ApiError(words, { status, kind, fields, hint, retryAfter });
}
