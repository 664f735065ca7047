// Jobs in words: states, kinds, times, numbers.

import { count, moment } from "../words.js";

/**
 * What a job does now.
 *
 * @typedef {{stage: string, step: number, steps: number, eta_seconds: number}} Progress
 */

/**
 * @typedef {"supervised" | "multi_teacher" | "data_free"} Kind
 */

/**
 * A job as the page's server tells it; what is not set is left out.
 *
 * @typedef {object} Job
 * @property {string} name "jobs/{id}".
 * @property {string} display_name
 * @property {string} state "JOB_STATE_RUNNING" and so on.
 * @property {number} priority
 * @property {number} attempt
 * @property {string} pool
 * @property {string} result_model "models/{name}/versions/{n}", or "".
 * @property {boolean} cancel_requested
 * @property {string} [create_time]
 * @property {string} [start_time]
 * @property {string} [end_time]
 * @property {Progress} [progress]
 * @property {Record<string, number | string>} metrics
 * @property {{message: string, hint?: string}} [error]
 * @property {Record<string, any>} [supervised]
 * @property {Record<string, any>} [multi_teacher]
 * @property {Record<string, any>} [data_free]
 */

/** @type {Record<Kind, string>} */
export const KINDS = {
  multi_teacher: "from teachers, with data",
  supervised: "from labels",
  data_free: "from teachers, without data",
};
const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const AFTER_TRAINING = new Set(["exporting", "quantizing", "publishing"]);

/** @param {{state: string}} job */
export function stateOf(job) {
  return job.state.replace("JOB_STATE_", "").toLowerCase();
}

/** @param {{state: string}} job Whether nothing more happens to it. */
export function ended(job) {
  return FINAL.has(stateOf(job));
}

/** @param {Job} job */
export function idOf(job) {
  return job.name.replace("jobs/", "");
}

/**
 * @param {Job} job
 * @returns {Kind}
 */
export function kindOf(job) {
  return job.multi_teacher ? "multi_teacher" : job.data_free ? "data_free" : "supervised";
}

/**
 * @param {Job} job
 * @returns {Record<string, any>}
 */
export function specOf(job) {
  return job[kindOf(job)] ?? {};
}

/** @param {Job} job What people call it. */
export function titleOf(job) {
  return job.display_name || specOf(job)["output_model"] || job.name;
}

/** @param {string} model "name@3" of "models/name/versions/3". */
export function referenceOf(model) {
  return model.replace(/^models\//, "").replace("/versions/", "@");
}

/** @param {Progress | undefined} progress Share that is done, from 0 to 1. */
export function shareOf(progress) {
  if (!progress) return 0;
  if (AFTER_TRAINING.has(progress.stage)) return 1;
  return progress.steps ? Math.min(1, progress.step / progress.steps) : 0;
}

/** @param {Progress | undefined} progress Such as "training, step 12 of 400, 1 min 5 s left". */
export function progressWords(progress) {
  if (!progress?.stage) return "";
  const { stage, step, steps, eta_seconds: eta } = progress;
  const words = [stage];
  // Other stages count images, where they count at all.
  if (stage === "training") words.push(`step ${count(step)} of ${count(steps)}`);
  else if (stage === "teachers" && step) words.push(`image ${count(step)} of ${count(steps)}`);
  if (eta > 0) words.push(`${duration(eta)} left`);
  return words.join(", ");
}

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

/** @param {Job} job Seconds of its present or last attempt; undefined where it has not started. */
export function secondsOf(job) {
  if (!job.start_time) return undefined;
  const end = job.end_time ? Date.parse(job.end_time) : Date.now();
  return (end - Date.parse(job.start_time)) / 1000;
}

/** @param {string | undefined} text RFC 3339; the reader's own time of it, or "". */
export function timeOf(text) {
  return text ? moment(text) : "";
}

/**
 * A measure in four digits. Protobuf writes what is no number as words.
 *
 * @param {number | string | undefined} value
 */
export function measure(value) {
  if (value === undefined) return "";
  if (typeof value === "string") return value;
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e6)) {
    return value.toExponential(2);
  }
  return String(Number(value.toPrecision(4)));
}

/** @param {string} reference Address of a model on the page of models. */
export function addressOf(reference) {
  return `/models#${encodeURIComponent(reference)}`;
}
