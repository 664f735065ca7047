// Asks again what could not be answered now.

import { ApiError, connection } from "../api.js";

const MOST_BUSY = 10;
const BUSY_S = 2; // where the service does not say when
const LOST_S = [1, 2, 3, 5];

/**
 * Why it waits.
 *
 * @typedef {object} Wait
 * @property {ApiError} error
 * @property {boolean} busy The service has too much to do; otherwise it is away.
 * @property {number} seconds Until it asks again.
 * @property {() => void} now Asks at once.
 */

/**
 * What `attempt` gives, asking again while the service is busy, for a while, or away, for ever.
 *
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {(wait: Wait) => void} tell Told before each wait.
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 * @throws {ApiError} What no waiting helps against.
 */
export async function persistently(attempt, tell, signal) {
  for (let busy = 0, lost = 0; ; ) {
    try {
      return await attempt();
    } catch (error) {
      if (signal.aborted || !(error instanceof ApiError) || !error.passes) throw error;
      const full = error.status === 429;
      if (full && busy === MOST_BUSY) throw error;
      const seconds = full
        ? error.retryAfter || BUSY_S
        : /** @type {number} */ (LOST_S[Math.min(lost, LOST_S.length - 1)]);
      if (full) busy++;
      else lost++;
      await pause(seconds, (now) => tell({ error, busy: full, seconds, now }), signal);
    }
  }
}

/**
 * Waits some seconds, or until what was lost is back.
 *
 * @param {number} seconds
 * @param {(now: () => void) => void} begin
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
function pause(seconds, begin, signal) {
  return new Promise((done, fail) => {
    const over = new AbortController();
    const timer = setTimeout(() => end(done), 1000 * seconds);
    const end = (/** @type {() => void} */ how) => {
      clearTimeout(timer);
      over.abort();
      how();
    };
    connection.addEventListener("back", () => end(done), { signal: over.signal });
    signal.addEventListener("abort", () => end(() => fail(signal.reason)), { signal: over.signal });
    begin(() => end(done));
  });
}
