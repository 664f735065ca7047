// The view "Sign in": one field, and words beside it when the key is not good.

import { ApiError } from "./api.js";
import { at } from "./dom.js";
import { sentence } from "./words.js";

/** @type {((token: string) => Promise<void>) | null} */
let enter = null;
let waits = 0;

/**
 * Fills the view in.
 *
 * @param {import("./session.js").Caller | null} caller Who calls now.
 * @param {(token: string) => Promise<void>} entering Signs in; throws an ApiError.
 */
export function fillSignIn(caller, entering) {
  const form = at("sign-in-form", HTMLFormElement);
  if (enter === null) form.addEventListener("submit", onSubmit);
  enter = entering;
  if (!waits) tell(""); // What was wrong when it was seen last.
  const nobody = caller?.caller_id === "anonymous";
  form.hidden = nobody;
  at("sign-in-present").textContent = nobody
    ? "The services of this installation ask nobody for a key: there is nothing to sign in to."
    : caller && !caller.guest
      ? `You are signed in as ${caller.caller_id}. Another key takes its place.`
      : "";
  if (!nobody) at("token", HTMLInputElement).focus({ preventScroll: true });
}

/** @param {Event} event */
async function onSubmit(event) {
  event.preventDefault();
  const token = at("token", HTMLInputElement);
  const button = at("sign-in", HTMLButtonElement);
  const key = token.value.trim();
  tell(key ? "" : "Enter a key or token.");
  if (!key || enter === null || button.disabled) return;
  button.disabled = true;
  try {
    await enter(key);
    token.value = "";
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    tellProblem(error);
  } finally {
    button.disabled = waits > 0;
  }
}

/**
 * Tells beside the field why the key did not sign in.
 *
 * @param {ApiError} error
 */
export function tellProblem(error) {
  const [field] = error.fields;
  const told = field ? `the key ${field.message}` : error.message;
  const words = [told, error.hint].filter(Boolean).map(sentence);
  if (error.status === 429) {
    const seconds = Math.max(1, Math.ceil(error.retryAfter));
    words.push(`Wait ${seconds === 1 ? "a second" : `${seconds} seconds`}, then try again.`);
    pause(seconds);
  }
  tell(words.join(" "));
  const token = at("token", HTMLInputElement);
  token.focus();
  token.select();
}

/** @param {number} seconds */
function pause(seconds) {
  const button = at("sign-in", HTMLButtonElement);
  waits += 1;
  button.disabled = true;
  setTimeout(() => {
    waits -= 1;
    if (waits) return;
    button.disabled = false;
    tell("");
    at("sign-in-problem").textContent = "You can try again now.";
  }, seconds * 1000);
}

/** @param {string} words Nothing: all is well. */
function tell(words) {
  at("sign-in-problem").textContent = words;
  const token = at("token", HTMLInputElement);
  if (words) token.setAttribute("aria-invalid", "true");
  else token.removeAttribute("aria-invalid");
}
