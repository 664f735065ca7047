// What the form of a new job offers: the datasets and teachers that are present.

import { ask } from "../api.js";
import { at, element } from "../dom.js";
import { count } from "../words.js";
import { measure } from "./wording.js";

/**
 * @typedef {object} Model
 * @property {string} reference
 * @property {string[]} aliases
 * @property {string} role
 * @property {string} task
 * @property {number} parameters
 * @property {Record<string, number | string>} metrics
 */

/**
 * @typedef {object} Dataset
 * @property {string} reference
 * @property {string[]} classes
 * @property {Record<string, number>} splits
 */

const MOST_TEACHERS = 8;
// With more of them than a glance takes in, a word finds them.
const MANY = 10;
/** @type {string[]} References of all models. */
let references = [];

/** @param {() => void} changed Told when another dataset or teacher is chosen. */
export function prepareChoices(changed) {
  at("new-teachers").addEventListener("change", () => {
    limit();
    changed();
  });
  for (const id of ["new-teachers-find", "new-teachers-older"]) at(id).addEventListener("input", find);
  // Enter submits the form from any other field; here it only ends the word.
  at("new-teachers-find").addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });
}

/**
 * Asks for models and datasets, and offers them; what was chosen stays so.
 *
 * @param {AbortSignal} signal
 * @throws {import("../api.js").ApiError}
 */
export async function loadChoices(signal) {
  const [models, datasets] = await Promise.all([
    pages("/api/models", "models", signal),
    pages("/api/datasets", "datasets", signal),
  ]);
  references = models.map((/** @type {Model} */ each) => each.reference);
  offerDatasets(datasets);
  offerTeachers(models.filter((/** @type {Model} */ each) => each.task === "segmentation"));
}

/** @param {string} name Of a model: how many versions there are. */
export function versionsOf(name) {
  return references.filter((each) => nameOf(each) === name).length;
}

/** References of the teachers that are chosen. */
export function chosenTeachers() {
  return boxes().filter((box) => box.checked).map((box) => box.value);
}

/** @param {string[]} wanted References; one that is not on offer is added as it is written. */
export function chooseTeachers(wanted) {
  const there = new Set(boxes().map((box) => box.value));
  const others = wanted.filter((each) => !there.has(each));
  at("new-teachers").prepend(...others.map((each) => line(each, each, "")));
  for (const box of boxes()) box.checked = wanted.includes(box.value);
  limit();
  find();
}

/** @param {string} reference One that is not on offer is added as it is written. */
export function chooseDataset(reference) {
  const select = at("new-dataset", HTMLSelectElement);
  if (![...select.options].some((each) => each.value === reference)) {
    select.append(element("option", { value: reference }, reference));
  }
  select.value = reference;
}

/**
 * @param {string} path
 * @param {string} key
 * @param {AbortSignal} signal
 */
async function pages(path, key, signal) {
  const found = [];
  for (let token = ""; ; ) {
    const page = await ask(`${path}?${new URLSearchParams({ page_token: token })}`, { signal });
    found.push(...page[key]);
    token = page.next_page_token;
    if (!token) return found;
  }
}

/** @param {Dataset[]} datasets */
function offerDatasets(datasets) {
  const select = at("new-dataset", HTMLSelectElement);
  const before = select.value;
  select.replaceChildren(
    element("option", { value: "" }, datasets.length ? "Choose a dataset" : "There is none yet"),
    ...datasets.map(({ reference, classes, splits }) => {
      const images = Object.entries(splits).map(([name, count]) => `${count} ${name}`).join(", ");
      return element("option", { value: reference }, `${reference} (${images}; ${classes.join(", ")})`);
    }),
  );
  if (before) chooseDataset(before);
  else if (datasets.length === 1 && datasets[0]) select.value = datasets[0].reference;
  at("new-no-datasets").hidden = datasets.length > 0;
}

/** @param {Model[]} models */
function offerTeachers(models) {
  const before = chosenTeachers();
  const names = new Set();
  const rank = (/** @type {Model} */ model) => Number(!model.role.endsWith("TEACHER"));
  at("new-teachers").replaceChildren(
    ...models.toSorted((a, b) => rank(a) - rank(b)).map((model) => {
      const older = names.has(nameOf(model.reference));
      names.add(nameOf(model.reference));
      const dice = model.metrics["dice"];
      const words = [
        model.role.replace("MODEL_ROLE_", "").toLowerCase(),
        `${count(model.parameters)} parameters`,
        dice === undefined ? "" : `Dice ${measure(dice)}`,
        ...model.aliases,
      ];
      return line(model.reference, model.reference, words.filter(Boolean).join(" · "), older);
    }),
  );
  chooseTeachers(before);
  at("new-no-teachers").hidden = models.length > 0;
  at("new-teachers-tools").hidden = models.length <= MANY && names.size === models.length;
}

/**
 * @param {string} value
 * @param {string} name
 * @param {string} about
 * @param {boolean} [older] Not the newest version.
 */
function line(value, name, about, older = false) {
  return element(
    "label",
    { class: "jobs-choice", "data-older": older ? "yes" : "no" },
    element("input", { type: "checkbox", value }),
    element("span", {}, name),
    element("span", { class: "quiet" }, about),
  );
}

/** Hides what the word does not find; what is chosen always shows. */
function find() {
  const word = at("new-teachers-find", HTMLInputElement).value.trim().toLowerCase();
  const older = at("new-teachers-older", HTMLInputElement).checked;
  for (const box of boxes()) {
    const label = box.closest("label");
    if (!label) continue;
    const matches = label.textContent.toLowerCase().includes(word);
    label.hidden = !box.checked && (!matches || (label.dataset["older"] === "yes" && !older));
  }
}

/** No more teachers than a job may have. */
function limit() {
  const count = chosenTeachers().length;
  for (const box of boxes()) box.disabled = !box.checked && count >= MOST_TEACHERS;
  at("new-teachers-hint").textContent = `1 to ${MOST_TEACHERS}; ${count} chosen`;
}

function boxes() {
  return [...at("new-teachers").querySelectorAll("input")];
}

/** @param {string} reference */
function nameOf(reference) {
  return reference.split("@")[0] ?? "";
}
