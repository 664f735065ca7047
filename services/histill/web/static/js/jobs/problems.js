// Says what was wrong with a new job: beside each control, and all of it above the form.

import { at, element } from "../dom.js";
import { sentence } from "../words.js";
import { ABOUT, FIELDS } from "./spec.js";

/** @typedef {import("./wording.js").Kind} Kind */

/**
 * The id of the control of a field.
 *
 * @param {string} path As the service names it, such as "job.multi_teacher.training.steps".
 * @param {Kind} kind
 * @returns {string | undefined} undefined: the form has no control for it.
 */
export function controlOf(path, kind) {
  const within = path.replace(/^job\./, "");
  for (const [id, name] of Object.entries(ABOUT)) if (within === name) return id;
  const own = within.startsWith(`${kind}.`) ? within.slice(kind.length + 1) : "";
  return FIELDS.find(({ paths }) => {
    const theirs = paths[kind];
    return theirs !== undefined && (own === theirs || own.startsWith(`${theirs}[`));
  })?.id;
}

/** Forgets all problems. */
export function clearProblems() {
  at("new-problems").hidden = true;
  at("new-problems").replaceChildren();
  for (const each of at("new-form").querySelectorAll(".jobs-wrong")) each.remove();
  for (const each of at("new-form").querySelectorAll("[aria-invalid]")) {
    each.removeAttribute("aria-invalid");
    describe(each, `${each.id}-problem`, false);
  }
}

/**
 * Shows why a job was not accepted, and puts the focus there.
 *
 * @param {import("../api.js").ApiError} error
 * @param {Kind | null} kind null: the job was written as text.
 */
export function showProblems(error, kind) {
  clearProblems();
  const summary = at("new-problems");
  const fields = error.fields.length ? error.fields : named(error.message);
  const items = fields.map(({ field, message }) => {
    const id = kind === null ? "new-text" : controlOf(field, kind);
    if (!id) return element("li", {}, `${field}: ${message}`);
    if (kind !== null) mark(id, message);
    const name = kind === null ? field : labelOf(id);
    const click = (/** @type {Event} */ event) => reach(event, id);
    return element("li", {}, element("a", { href: `#${id}`, click }, name), `: ${message}`);
  });
  const passing = error.passes ? "Submit again: it makes no second job." : "";
  summary.append(
    element("h2", {}, "The job was not accepted"),
    ...(items.length ? [element("ul", {}, ...items)] : [element("p", {}, sentence(error.message))]),
    ...[error.hint, passing].filter(Boolean).map((words) => element("p", {}, sentence(words))),
  );
  summary.hidden = false;
  summary.focus();
}

/**
 * What is not found is told in words, with the field before them.
 *
 * @param {string} message
 * @returns {{field: string, message: string}[]}
 */
function named(message) {
  const match = /^(job\.[\w.[\]]+): (.*)$/s.exec(message);
  return match ? [{ field: match[1] ?? "", message: match[2] ?? "" }] : [];
}

/**
 * @param {string} id
 * @param {string} message
 */
function mark(id, message) {
  const control = at(id);
  const old = document.getElementById(`${id}-problem`);
  if (old) return old.append(`; ${message}`);
  control.setAttribute("aria-invalid", "true");
  describe(control, `${id}-problem`, true);
  const said = element("span", { class: "jobs-wrong bad", id: `${id}-problem` }, message);
  control.closest(".jobs-field")?.append(said);
}

/**
 * Adds what describes a control, or takes it away.
 *
 * @param {Element} control
 * @param {string} id
 * @param {boolean} there
 */
function describe(control, id, there) {
  const others = (control.getAttribute("aria-describedby") ?? "").split(" ").filter((each) => each !== id);
  const all = (there ? [...others, id] : others).filter(Boolean).join(" ");
  if (all) control.setAttribute("aria-describedby", all);
  else control.removeAttribute("aria-describedby");
}

/** @param {string} id */
function labelOf(id) {
  const control = at(id);
  const label = document.querySelector(`label[for="${id}"]`);
  return label?.textContent ?? control.getAttribute("aria-label") ?? id;
}

/**
 * The address stays as it is: it names the page, not a place on it.
 *
 * @param {Event} event
 * @param {string} id
 */
function reach(event, id) {
  event.preventDefault();
  const control = at(id);
  const first = control.querySelector("input");
  (first ?? control).focus();
  control.scrollIntoView({ block: "center" });
}
