// Says what goes on, and what went wrong.

import { ApiError } from "../api.js";
import { at } from "../dom.js";
import { sentence } from "../words.js";

const AGAIN = "The image stays here, and it is tried again by itself every few seconds.";
/** @type {Record<string, string>} */
const FIELDS = {
  image: "The image",
  model: "The model",
  "selection.frame": "The frame",
  "selection.level": "The level",
  pixel_size_um: "The side of a pixel",
};
const OPTIONS = ["selection.frame", "selection.level", "pixel_size_um"];
const TAKEN = "What can be dropped: PNG, JPEG and TIFF images, DICOM images, and slides.";

/**
 * Tells a problem that has nothing to do with a model's answer; nothing: there is none.
 *
 * @param {string} problem
 */
export function say(problem) {
  own = problem;
  showProblem(problem, false);
}

/** The last one that was told so. */
let own = "";

/**
 * Shows how far the work is.
 *
 * @param {import("./work.js").Work} work
 */
export function showState({ subject, lanes, running, wait }) {
  at("drop").setAttribute("aria-busy", String(running !== null));
  const progress = at("progress", HTMLProgressElement);
  progress.hidden = !running || wait !== null;
  if (running?.lane.progress) progress.value = running.lane.progress;
  else progress.removeAttribute("value");
  const failed = lanes.find((each) => each.failure);
  const words = own ? [own] : [];
  let again = false;
  if (wait && !wait.busy) {
    words.push(sentence(wait.error.message), AGAIN);
    again = true;
  } else if (failed?.failure) {
    const { failure } = failed;
    words.push(wordsOf(failure));
    again = failure instanceof ApiError && failure.passes;
    const unseen = at("problem").textContent !== words.join(" ");
    if (unseen && isAboutOptions(failure)) at("options", HTMLDetailsElement).open = true;
  }
  showProblem(words.join(" "), again);
  tell(subject ? wordsFor(lanes, running, wait) : "");
}

/**
 * @param {import("./lane.js").Lane[]} lanes
 * @param {import("./work.js").Work["running"]} running
 * @param {import("./waiting.js").Wait | null} wait
 */
function wordsFor(lanes, running, wait) {
  if (wait?.busy) return `The service is busy. It is asked again in ${Math.ceil(wait.seconds)} s.`;
  if (wait) return "";
  if (running?.what === "confidence") return `Asking ${running.model} how sure it is…`;
  if (running) return `Segmenting with ${running.model}…`;
  const done = lanes.flatMap(({ summary }) => (summary ? [summary.model] : []));
  return done.length ? `Segmented by ${done.join(" and ")}.` : "";
}

/** @param {Error} error */
function wordsOf(error) {
  if (!(error instanceof ApiError)) return `The page made a mistake: ${error.message}`;
  const words = [named(error), error.hint];
  if (error.status === 401) words.push("The image stays here until you are signed in.");
  if (error.status === 429) words.push("It was asked several times.");
  // Where it does not know the format, the service says so itself.
  const image = error.fields.find(({ field }) => field === "image");
  if (image && !image.message.includes("send")) words.push(TAKEN);
  return words.filter(Boolean).map(sentence).join(" ");
}

/** @param {Error} error */
function isAboutOptions(error) {
  return error instanceof ApiError && error.fields.some(({ field }) => OPTIONS.includes(field));
}

/**
 * The message, with fields as the page names them.
 *
 * @param {ApiError} error
 */
function named({ message, fields }) {
  const known = fields.filter(({ field }) => field in FIELDS);
  if (!known.length) return message;
  return known.map(({ field, message: words }) => `${FIELDS[field]}: ${words}`).join(". ");
}

/**
 * @param {string} words
 * @param {boolean} again Whether trying again may help.
 */
function showProblem(words, again) {
  const where = at("problem");
  // Said once: a screen reader would read out every change.
  if (where.textContent !== words) where.textContent = words;
  where.hidden = words === "";
  at("try-now").hidden = !again;
}

/** @param {string} words */
function tell(words) {
  if (at("message").textContent !== words) at("message").textContent = words;
}
