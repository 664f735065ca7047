// One line of the list of jobs, brought up to date in place so that its links keep the focus.

import { element } from "../dom.js";
import { count } from "../words.js";
import { addressOf, duration, idOf, KINDS, kindOf, measure, progressWords } from "./wording.js";
import { referenceOf, secondsOf, shareOf, stateOf, timeOf, titleOf } from "./wording.js";

/** @typedef {import("./wording.js").Job} Job */

const COLUMNS = [
  "Job", "State", "Progress", "Loss", "Dice", "Created", "Took", "Attempt", "Pool", "Result",
];

/** The line of a job. */
export class Row {
  #cells = COLUMNS.map((name) => element("td", { role: "cell", "data-label": name }));
  #title = element("a");
  #about = element("span", { class: "quiet" });
  #state = element("span", { class: "job-badge" });
  #cancelling = element("span", { class: "quiet", hidden: true }, "cancel requested");
  #bar = element("progress", { max: "1", "aria-label": "Progress" });
  #words = element("span", { class: "quiet" });
  #result = element("a");

  /** @param {Job} job */
  constructor(job) {
    this.root = element("tr", { role: "row", "data-job": job.name }, ...this.#cells);
    this.#cells[0]?.append(this.#title, this.#about);
    this.#cells[1]?.append(this.#state, this.#cancelling);
    this.#cells[2]?.append(this.#bar, this.#words);
    this.#cells[9]?.append(this.#result);
    this.show(job);
  }

  /** @param {Job} job */
  show(job) {
    const state = stateOf(job);
    this.root.dataset["state"] = state;
    this.#title.href = `/jobs/${idOf(job)}`;
    say(this.#title, titleOf(job));
    say(this.#about, KINDS[kindOf(job)]);
    this.#state.dataset["state"] = state;
    say(this.#state, state);
    this.#cancelling.hidden = !job.cancel_requested;
    const running = state === "running";
    this.#bar.hidden = !running;
    if (running) showShare(this.#bar, job.progress);
    const steps = job.progress?.steps ? `${count(job.progress.steps)} steps` : "";
    say(this.#words, running ? progressWords(job.progress) : (job.error?.message ?? steps));
    const took = secondsOf(job);
    const texts = [
      measure(job.metrics["loss"]),
      measure(job.metrics["dice"] ?? job.metrics["val_dice"]),
      timeOf(job.create_time),
      took === undefined ? "" : duration(took),
      job.attempt ? String(job.attempt) : "",
      job.pool,
    ];
    for (const [index, text] of texts.entries()) say(this.#cells[index + 3], text);
    const result = referenceOf(job.result_model);
    this.#result.hidden = !result;
    if (result) this.#result.href = addressOf(result);
    say(this.#result, result);
    // What is empty has no line of its own on narrow screens.
    for (const cell of this.#cells) cell.classList.toggle("jobs-blank", !cell.textContent);
  }
}

/**
 * Shows how much is done; a bar that moves to and fro where that is not known.
 *
 * @param {HTMLProgressElement} bar
 * @param {import("./wording.js").Progress | undefined} progress
 */
export function showShare(bar, progress) {
  if (progress?.steps) bar.value = shareOf(progress);
  else bar.removeAttribute("value");
}

/**
 * @param {HTMLElement | undefined} place
 * @param {string | undefined} text
 */
function say(place, text = "") {
  if (place && place.textContent !== text) place.textContent = text;
}
