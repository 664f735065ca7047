// Who is signed in: asked at start, told in the page's head, and for as long as the key is good.

import { ApiError, ask, connection } from "./api.js";
import { at } from "./dom.js";
import { before, go } from "./router.js";
import { fillSignIn, tellProblem } from "./sign_in.js";

/**
 * Who calls, as the services know them.
 *
 * @typedef {object} Caller
 * @property {string} caller_id "anonymous" where the services ask nobody for a key.
 * @property {"viewer" | "operator" | "admin"} role
 * @property {string} project
 * @property {boolean} [guest] Not signed in: let in with the installation's guest key.
 * @property {boolean} [signed_in] By a cookie of ours, which signing out removes.
 */

const PAINT_MS = 250; // The first paint waits this long, so that nothing is offered and taken back.
const KEY_MS = 4000;

/** @type {Caller | null} */
let caller = null;
/** Whose things are on the page; nobody else may find them there. */
let owner = "";
let entering = false;

/** Asks who calls; a key in the address's fragment signs in, and is gone from the address. */
export async function begin() {
  const key = keyOfAddress();
  connection.addEventListener("signed-out", onSignedOut);
  connection.addEventListener("back", () => caller ?? refresh());
  addEventListener("hashchange", () => {
    const pasted = keyOfAddress();
    if (pasted) void enterBy(pasted);
  });
  otherTabs.addEventListener("message", onOtherTab);
  at("sign-out").addEventListener("click", () => void signOut());
  const known = key ? enterBy(key) : refresh();
  await Promise.race([known, new Promise((done) => setTimeout(done, key ? KEY_MS : PAINT_MS))]);
}

/**
 * Whether the caller may do what a role is needed for; true where it is not known. "caller" of
 * `connection` tells when that changes.
 *
 * @param {"viewer" | "operator" | "admin"} role
 */
export function may(role) {
  const ranks = ["viewer", "operator", "admin"];
  return caller === null || ranks.indexOf(caller.role) >= ranks.indexOf(role);
}

/** Who calls; null while it is not known. */
export function present() {
  return caller;
}

/** @type {import("./router.js").View} */
export const signIn = {
  id: "sign-in",
  title: "Sign in",
  path: /^\/sign-in$/,
  show: () => {
    history.replaceState({ from: before(), ...history.state }, "");
    fillSignIn(caller, enter);
  },
};

/**
 * Signs in, and goes back to where one was.
 *
 * @param {string} token An API key or an access token.
 * @throws {ApiError}
 */
async function enter(token) {
  entering = true;
  try {
    const known = know(await ask("/api/session", { method: "POST", json: { token } }));
    otherTabs.postMessage("signed-in");
    if (known) goBack();
  } finally {
    entering = false;
  }
}

/** @param {string} key */
async function enterBy(key) {
  try {
    await enter(key);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toSignIn();
    // A key that may be good is not asked for again.
    if (error.passes) at("token", HTMLInputElement).value = key;
    tellProblem(error);
  }
}

async function signOut() {
  const problem = at("sign-out-problem");
  problem.textContent = "";
  try {
    await ask("/api/session", { method: "DELETE" });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    problem.textContent = `You are still signed in. ${error.message}`;
    return;
  }
  otherTabs.postMessage("signed-out");
  // A new document: nothing that was loaded for this caller stays.
  location.replace("/");
}

/**
 * Asks who calls.
 *
 * @returns {Promise<boolean>} Whether somebody is known.
 */
async function refresh() {
  try {
    return know(await ask("/api/session"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return false;
  }
}

/**
 * A question was refused for want of a good key. One that was on its way while somebody signed
 * in says nothing of them, so the session itself is asked.
 *
 * @param {Event} event
 */
async function onSignedOut(event) {
  const asked = String(/** @type {CustomEvent} */ (event).detail);
  if (entering) return;
  if (!asked.startsWith("/api/session") && (await refresh())) return;
  know(null);
  toSignIn();
}

/** Goes to the sign-in, which remembers where one was. */
function toSignIn() {
  if (location.pathname === "/sign-in") return;
  const from = location.pathname + location.search + location.hash;
  go("/sign-in", { replace: true, state: { from } });
}

function goBack() {
  if (location.pathname === "/sign-in") go(fromOf(), { replace: true });
}

/** Where one was before the sign-in. */
function fromOf() {
  const { from } = history.state ?? {};
  return typeof from === "string" && from ? from : "/";
}

/**
 * @param {Caller | null} next
 * @returns {boolean} Whether the page goes on; else another document takes its place.
 */
function know(next) {
  if (next && owner && owner !== next.caller_id) {
    if (location.pathname === "/sign-in") location.replace(fromOf());
    else location.reload();
    return false;
  }
  if (next && !next.guest) owner = next.caller_id;
  const changed = JSON.stringify(next) !== JSON.stringify(caller);
  caller = next;
  tellCaller();
  if (changed) connection.dispatchEvent(new CustomEvent("caller", { detail: caller }));
  return true;
}

/** Tells in the page's head who calls, and offers what there is to do about it. */
function tellCaller() {
  at("caller").hidden = caller === null || caller.caller_id === "anonymous";
  if (caller === null) return;
  const { guest, caller_id, role, project } = caller;
  at("caller-name").textContent = [guest ? "guest" : caller_id, role, project].join(" · ");
  at("caller-name").title = at("caller-name").textContent ?? "";
  at("sign-out").hidden = !caller.signed_in;
  at("to-sign-in").hidden = !guest;
}

/** Takes a key out of the address and the history, before anything else may see it. */
function keyOfAddress() {
  const [, key] = /^#key=(.+)$/.exec(location.hash) ?? [];
  if (key === undefined) return "";
  history.replaceState(history.state, "", location.pathname + location.search);
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}

const otherTabs = new BroadcastChannel("histill");

/** @param {MessageEvent} message */
async function onOtherTab(message) {
  if (message.data === "signed-out") location.replace("/");
  else if (message.data === "signed-in" && (await refresh())) goBack();
}
