// What does not answer, and whether it is back: one failure is looked at again before it is told.

/**
 * Told of everything between the page and its server:
 * "lost" (detail: what people read) and "back" (detail: the Part that answers again) of services,
 * "signed-out" (detail: what was asked) when the server knows the caller no more, "caller" when it
 * is known who calls (detail: the Caller, see session.js), "parts" when what is lost has changed.
 */
export const connection = new EventTarget();

/** @typedef {"server" | "registry" | "inference" | "jobs"} Part */

const AGAIN_MS = 1000;
const EVERY_MS = 3000;
const PROBE_MS = 5000;
/** What people read when the page's own server does not answer. */
export const SERVER_AWAY = "The page's server does not answer.";

// Something cheap to ask, which the part itself must answer.
const PROBES = { server: "/healthz", registry: "/api/session", inference: "/api/served", jobs: "/api/jobs" };

/**
 * @typedef {object} Loss
 * @property {string} message Why, for people.
 * @property {boolean} failed A question failed; else one only takes long.
 * @property {boolean} told It is on the page.
 */

/** @type {Map<Part, Loss>} */
const lost = new Map();
let timer = 0;

/**
 * Which service stands behind an address.
 *
 * @param {string} path
 * @returns {Part}
 */
export function partOf(path) {
  if (/^\/api\/(segment|mask|served)\b/.test(path)) return "inference";
  if (/^\/api\/jobs\b/.test(path)) return "jobs";
  return path.startsWith("/api/") ? "registry" : "server";
}

/**
 * What is lost for longer than a moment, and why.
 *
 * @returns {[Part, string][]}
 */
export function lostParts() {
  return [...lost].flatMap(([part, { message, told }]) => (told ? [[part, message]] : []));
}

/**
 * A part did not answer. It is asked again by itself until it does.
 *
 * @param {Part} part
 * @param {string} message Why, for people.
 */
export function lose(part, message) {
  const known = lost.get(part);
  if (known) known.failed = true;
  else suspect(part, { message, failed: true, told: false });
}

/** An answer takes long: whether the page's server is there at all is asked. */
export function doubt() {
  if (!lost.has("server")) suspect("server", { message: SERVER_AWAY, failed: false, told: false });
}

/**
 * @param {Part} part
 * @param {Loss} loss
 */
function suspect(part, loss) {
  lost.set(part, loss);
  clearTimeout(timer);
  timer = setTimeout(probe, AGAIN_MS);
}

/**
 * A part answered.
 *
 * @param {Part} part
 */
export function find(part) {
  const known = lost.get(part);
  if (!known) return;
  lost.delete(part);
  connection.dispatchEvent(new Event("parts"));
  if (known.failed || known.told) connection.dispatchEvent(new CustomEvent("back", { detail: part }));
}

async function probe() {
  await Promise.all([...lost.keys()].map(probePart));
  connection.dispatchEvent(new Event("parts"));
  clearTimeout(timer);
  const sure = [...lost.values()].every(({ told }) => told);
  if (lost.size) timer = setTimeout(probe, sure ? EVERY_MS : AGAIN_MS);
}

/** @param {Part} part */
async function probePart(part) {
  const failure = await failureOf(PROBES[part]);
  const known = lost.get(part);
  if (!known) return;
  if (failure === null) find(part);
  // While the page's own server is away nothing is known of what stands behind it.
  else if (failure === "server" && part !== "server") lose("server", SERVER_AWAY);
  else if (!known.told) {
    known.told = true;
    connection.dispatchEvent(new CustomEvent("lost", { detail: known.message }));
  }
}

/**
 * What keeps an address from answering; null when it answers, be it with a refusal.
 *
 * @param {string} address
 * @returns {Promise<"server" | "service" | null>}
 */
async function failureOf(address) {
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(PROBE_MS), cache: "no-store" });
    await response.body?.cancel();
    return [502, 503, 504].includes(response.status) ? "service" : null;
  } catch (error) {
    return error instanceof DOMException && error.name === "TimeoutError" && address !== PROBES.server
      ? "service"
      : "server";
  }
}
