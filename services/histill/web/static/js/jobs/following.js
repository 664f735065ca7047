// Follows the events of a job: connects again when it must, and tells each event once.

import { ask, ApiError, refusal } from "../api.js";
import { sentence } from "../words.js";

/**
 * @typedef {object} JobEvent
 * @property {string} event_id
 * @property {number} attempt
 * @property {string} [state]
 * @property {import("./wording.js").Progress} [progress]
 * @property {string} [log]
 * @property {Record<string, number | string>} metrics
 */

/**
 * Who is told.
 *
 * @typedef {object} Told
 * @property {(event: JobEvent) => void} event
 * @property {() => void} end The job has ended and all events were told.
 * @property {(words: string) => void} [lost] Events do not come; it is tried again.
 * @property {() => void} [found] They come again.
 * @property {(words: string) => void} [gone] They will not come any more.
 */

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
// An answer that fails again at once is no answer.
const STEADY_MS = 1500;
// A browser opens six connections to a server, for all its tabs: with six jobs in the background
// no page would load any more.
const UNSEEN_MS = 5000;
const GONE = new Set(["NotFoundError", "UnauthenticatedError", "PermissionDeniedError"]);

/**
 * Follows a job until it has ended.
 *
 * A browser connects again by itself. It gives up when the server refuses; then this begins anew
 * after a while, after the event that was told last. So it does when the document is seen again:
 * while nobody sees it, it holds no connection.
 *
 * @param {string} id Of the job.
 * @param {Told} told
 * @returns {() => void} Stops.
 */
export function follow(id, told) {
  const path = `/api/jobs/${encodeURIComponent(id)}`;
  /** @type {EventSource | undefined} */
  let source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let steady;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let unseen;
  let [last, wait, stopped] = ["", FIRST_WAIT_MS, false];
  let failing = false; // The server has said why; that its answer then ends says nothing more.

  const stop = () => {
    stopped = true;
    document.removeEventListener("visibilitychange", turn);
    clearTimeout(unseen);
    rest();
  };
  const rest = () => {
    clearTimeout(timer);
    clearTimeout(steady);
    source?.close();
    source = undefined;
  };
  const turn = () => {
    clearTimeout(unseen);
    if (document.hidden) unseen = setTimeout(rest, UNSEEN_MS);
    else if (!source) open();
  };
  const found = () => {
    clearTimeout(steady);
    failing = false;
    wait = FIRST_WAIT_MS;
    told.found?.();
  };
  const gone = (/** @type {string} */ words) => {
    stop();
    told.gone?.(words);
  };
  const lost = (/** @type {string} */ words) => {
    clearTimeout(steady);
    told.lost?.(words);
  };

  async function again() {
    const mine = source;
    lost("Events of this job do not come now; trying again.");
    try {
      await ask(path);
    } catch (error) {
      if (error instanceof ApiError && !error.passes) return gone(sentence(error.message));
    }
    if (stopped || source !== mine) return;
    timer = setTimeout(open, wait);
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
  }

  function open() {
    const after = last && `?after=${encodeURIComponent(last)}`;
    const opened = new EventSource(`${path}/events${after}`);
    source = opened;
    for (const kind of ["state", "progress", "log"]) {
      opened.addEventListener(kind, (message) => {
        if (stopped) return;
        found();
        if (!isLater(message.lastEventId, last)) return;
        last = message.lastEventId;
        told.event(JSON.parse(message.data));
      });
    }
    opened.addEventListener("open", () => {
      clearTimeout(steady);
      steady = setTimeout(found, STEADY_MS);
    });
    opened.addEventListener("end", () => {
      stop();
      told.end();
    });
    opened.addEventListener("failure", (message) => {
      const error = refusal(0, JSON.parse(message.data));
      if (GONE.has(error.kind)) return gone(sentence(error.message));
      failing = true;
      lost(`${sentence(error.message)} Trying again.`);
    });
    opened.addEventListener("error", () => {
      if (stopped) return;
      clearTimeout(steady);
      if (opened.readyState === EventSource.CLOSED) void again();
      else if (!failing) lost("The connection was lost; connecting again.");
    });
  }

  document.addEventListener("visibilitychange", turn);
  if (!document.hidden) open();
  return stop;
}

/**
 * Ids grow with time; they are "MILLISECONDS-NUMBER".
 *
 * @param {string} id
 * @param {string} other
 */
function isLater(id, other) {
  const [time = 0, number = 0] = id.split("-").map(Number);
  const [otherTime = 0, otherNumber = 0] = other.split("-").map(Number);
  return time > otherTime || (time === otherTime && number > otherNumber);
}
