// The form of a new job, to and from what the job says.

import { at } from "../dom.js";
import { chooseDataset, chooseTeachers, chosenTeachers } from "./choices.js";
import { ABOUT, DEFAULTS, FIELDS, setAt, valueAt, written } from "./spec.js";
import { kindOf } from "./wording.js";

/** @typedef {import("./wording.js").Kind} Kind */
/** @typedef {import("./wording.js").Job} Job */

const RADIOS = /** @type {const} */ ({
  "kind-supervised": "supervised", "kind-multi-teacher": "multi_teacher", "kind-data-free": "data_free",
});

/** @returns {Kind} The kind that is chosen. */
export function kindNow() {
  for (const [id, kind] of Object.entries(RADIOS)) {
    if (at(id, HTMLInputElement).checked) return kind;
  }
  return "multi_teacher";
}

/**
 * Shows the fields of a kind with its ranges. What was at the default of the kind before is at that
 * of this one.
 *
 * @param {Kind} kind
 * @param {Kind} before
 */
export function adapt(kind, before) {
  for (const field of FIELDS) {
    const path = field.paths[kind];
    const control = at(field.id);
    const whole = control.closest(".jobs-field");
    if (whole instanceof HTMLElement) whole.hidden = path === undefined;
    if (path === undefined || !isText(control)) continue;
    const usual = usually(kind, path);
    const old = usually(before, field.paths[before] ?? "");
    if (usual !== "" && (control.value === "" || control.value === old)) control.value = usual;
    const range = field.ranges?.[kind] ?? field.range;
    if (!range || !(control instanceof HTMLInputElement)) continue;
    [control.min, control.max] = [String(range[0]), String(range[1])];
    const words = `${range.map(inWords).join(" to ")}; usually ${inWords(Number(usual))}`;
    at(`${field.id}-hint`).textContent = words;
  }
  for (const group of at("new-form").querySelectorAll("fieldset.jobs-group")) {
    if (group instanceof HTMLElement) group.hidden = !group.querySelector(".jobs-field:not([hidden])");
  }
}

/** The job that the form describes, without what is at its default. */
export function read() {
  const kind = kindNow();
  /** @type {Record<string, any>} */
  const spec = {};
  for (const field of FIELDS) {
    const path = field.paths[kind];
    if (path === undefined) continue;
    const value = field.id === "new-teachers" ? chosenTeachers() : valueOf(field.id, Boolean(field.range));
    const empty = value === undefined || value === "" || (Array.isArray(value) && !value.length);
    if (empty || value === valueAt(DEFAULTS[kind], path)) continue;
    setAt(spec, path, value);
  }
  /** @type {Record<string, any>} */
  const job = {};
  const name = at("new-display-name", HTMLInputElement).value.trim();
  if (name) job["display_name"] = name;
  job[kind] = spec;
  const priority = valueOf("new-priority", true);
  if (priority) job["priority"] = priority;
  const pool = at("new-pool", HTMLInputElement).value.trim();
  if (pool) job["pool"] = pool;
  return job;
}

/**
 * Makes the form describe a job.
 *
 * @param {Job} job
 * @returns {boolean} Whether it can: a job may say more than the form offers.
 */
export function fill(job) {
  const kind = kindOf(job);
  const before = kindNow();
  for (const [id, each] of Object.entries(RADIOS)) at(id, HTMLInputElement).checked = each === kind;
  adapt(kind, before);
  const said = written(job, kind);
  for (const [id, name] of Object.entries(ABOUT)) {
    at(id, HTMLInputElement).value = String(said[name] ?? (name === "priority" ? 0 : ""));
  }
  const rest = structuredClone(said[kind]);
  for (const field of FIELDS) {
    const path = field.paths[kind];
    if (path === undefined) continue;
    const value = valueAt(said[kind], path) ?? valueAt(DEFAULTS[kind], path);
    setAt(rest, path, undefined);
    const control = at(field.id);
    if (field.id === "new-teachers") chooseTeachers(value ?? []);
    else if (field.id === "new-dataset") chooseDataset(value ?? "");
    else if (isText(control)) control.value = String(value ?? "");
    // A choice that the form does not have.
    if (control instanceof HTMLSelectElement && control.selectedIndex < 0) return false;
  }
  return !Object.keys(rest).length;
}

/**
 * @param {string} id
 * @param {boolean} number
 * @returns {number | string | undefined} undefined: nothing is written there.
 */
function valueOf(id, number) {
  const control = at(id);
  if (!isText(control)) return undefined;
  if (!number) return control.value.trim();
  if (control.validity.badInput) return NaN; // the service says that it is no number
  return control.value === "" ? undefined : Number(control.value);
}

/**
 * @param {Kind} kind
 * @param {string} path
 */
function usually(kind, path) {
  return String(valueAt(DEFAULTS[kind], path) ?? "");
}

/** @param {number} value */
function inWords(value) {
  return value < 1 ? String(value) : value.toLocaleString("en");
}

/**
 * @param {HTMLElement} control
 * @returns {control is HTMLInputElement | HTMLSelectElement}
 */
function isText(control) {
  return control instanceof HTMLInputElement || control instanceof HTMLSelectElement;
}
