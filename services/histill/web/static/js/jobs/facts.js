// What is known of one job, beside its curves.

import { at, element } from "../dom.js";
import { size } from "../words.js";
import { showShare } from "./row.js";
import { written } from "./spec.js";
import { addressOf, duration, ended, idOf, KINDS, kindOf, measure } from "./wording.js";
import { referenceOf, secondsOf, specOf, stateOf, timeOf, titleOf } from "./wording.js";
import { yamlOf } from "./yaml.js";

/** @typedef {import("./wording.js").Job} Job */

/** @type {[label: string, unit: string, ...names: string[]][]} The first name that is there counts. */
const MEASURES = [
  ["Dice", "", "dice", "val_dice"],
  ["IoU", "", "iou", "val_iou"],
  ["Surface Dice (2 px)", "", "nsd2", "val_nsd2"],
  ["Last loss", "", "loss"],
  ["An image takes", " ms", "latency_ms"],
];

/** @param {Job} job */
export function showRecord(job) {
  const state = stateOf(job);
  say("job-title", titleOf(job));
  say("job-name", job.name);
  say("job-state", state);
  at("job-state").dataset["state"] = state;
  at("job-cancelling").hidden = !job.cancel_requested;
  at("job-waits").hidden = state !== "queued";
  at("job-progress").hidden = state !== "running";
  showShare(at("job-progress", HTMLProgressElement), job.progress);
  at("job-failed").hidden = !job.error;
  say("job-error", job.error?.message);
  say("job-hint", job.error?.hint);
  at("job-hint").hidden = !job.error?.hint;
  at("job-cancel").hidden = ended(job);
  at("job-charts").dataset["ended"] = ended(job) ? "yes" : "no";
  at("job-cancel", HTMLButtonElement).disabled = job.cancel_requested;
  const report = at("job-report", HTMLAnchorElement);
  report.hidden = state !== "succeeded";
  report.href = `/api/jobs/${idOf(job)}/report`;
  const result = referenceOf(job.result_model);
  at("job-result").hidden = !result;
  at("job-result", HTMLAnchorElement).href = addressOf(result);
  say("job-result-name", result);
  at("job-again", HTMLAnchorElement).href = `/jobs/new?like=${idOf(job)}`;
  say("job-spec", yamlOf(written(job, kindOf(job))));
  list(facts(job));
}

/**
 * @param {Job} job
 * @returns {[string, string | string[]][]} References of models, in a list, become links.
 */
function facts(job) {
  const spec = specOf(job);
  const took = secondsOf(job);
  const seconds = Number(job.metrics["step_seconds"]);
  /** @type {[string, string | string[]][]} */
  const found = [
    ["Kind", KINDS[kindOf(job)]],
    ["Dataset", spec["dataset"] ?? ""],
    ["Teachers", spec["teachers"] ?? ""],
    ["Writes model", job.result_model ? "" : (spec["output_model"] ?? "")],
    ["Created", timeOf(job.create_time)],
    ["Started", timeOf(job.start_time)],
    ["Ended", timeOf(job.end_time)],
    [ended(job) ? "Took" : "Running for", took === undefined ? "" : duration(took)],
    ["A step takes", seconds > 0 && !ended(job) ? `${measure(1000 * seconds)} ms` : ""],
    ["Attempt", job.attempt ? String(job.attempt) : ""],
    ["Pool", job.pool],
    ["Priority", String(job.priority)],
  ];
  for (const [label, unit, ...names] of MEASURES) {
    const value = names.map((name) => job.metrics[name]).find((each) => each !== undefined);
    if (value !== undefined) found.push([label, measure(value) + unit]);
  }
  if (job.metrics["model_bytes"]) found.push(["Size of the model", size(Number(job.metrics["model_bytes"]))]);
  return found.filter(([, value]) => value.length);
}

/**
 * Changes only what differs: a link that has the focus stays.
 *
 * @param {[string, string | string[]][]} found
 */
function list(found) {
  const place = at("job-facts");
  const names = new Set(found.map(([name]) => name));
  for (const each of [...place.children]) {
    if (!names.has(each.getAttribute("data-fact") ?? "")) each.remove();
  }
  let next = place.firstElementChild;
  for (const [name, value] of found) {
    const text = Array.isArray(value) ? value.join(" ") : value;
    if (next?.getAttribute("data-fact") === name) {
      if (next.lastElementChild?.textContent !== text) next.lastElementChild?.replaceWith(told(value));
      next = next.nextElementSibling;
    } else {
      place.insertBefore(element("div", { "data-fact": name }, element("dt", {}, name), told(value)), next);
    }
  }
}

/** @param {string | string[]} value */
function told(value) {
  if (!Array.isArray(value)) return element("dd", {}, value);
  const links = value.map((each) => element("div", {}, element("a", { href: addressOf(each) }, each)));
  return element("dd", {}, ...links);
}

/**
 * @param {string} id
 * @param {string} [text]
 */
function say(id, text = "") {
  if (at(id).textContent !== text) at(id).textContent = text;
}
