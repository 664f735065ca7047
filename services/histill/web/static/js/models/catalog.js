// What the registry has: every version of every model, and how the versions hang together.

import { ask } from "../api.js";

/**
 * One version, as the registry tells it.
 *
 * @typedef {object} Model
 * @property {string} reference "name@3"
 * @property {string[]} aliases
 * @property {"MODEL_ROLE_TEACHER" | "MODEL_ROLE_STUDENT" | "MODEL_ROLE_UNSPECIFIED"} role
 * @property {string} architecture
 * @property {number} channels
 * @property {string[]} classes
 * @property {number} parameters 0: not counted.
 * @property {number} size_bytes
 * @property {Record<string, number | string>} metrics "NaN" where nothing could be measured.
 * @property {string[]} teachers
 * @property {string} dataset
 * @property {string} job "jobs/{id}"
 * @property {{path: string}[]} files
 * @property {string} [create_time]
 * @property {boolean} servable
 * @property {string} task
 * @property {number} dp_epsilon 0: no guarantee.
 * @property {number} dp_delta
 */

/**
 * A class of a served model.
 *
 * @typedef {{index: number, name: string, color: [number, number, number]}} ServedClass
 */

/**
 * A model that the inference service offers.
 *
 * @typedef {{reference: string, loaded: boolean, classes: ServedClass[]}} Served
 */

/**
 * Everything that the view shows.
 *
 * @typedef {object} Catalog
 * @property {Model[]} models By name, newest version first.
 * @property {Served[] | null | undefined} served Null: the inference service does not answer;
 *   undefined: it has not answered yet.
 */

/**
 * What the inference service offers; null when it does not answer.
 *
 * @param {AbortSignal} signal
 * @returns {Promise<Served[] | null>}
 */
export function listServed(signal) {
  return ask("/api/served", { signal }).then(
    (found) => found.models,
    () => null,
  );
}

/**
 * Every version, however many pages they take.
 *
 * @param {AbortSignal} [signal]
 * @returns {Promise<Model[]>}
 * @throws {import("../api.js").ApiError} The registry does not tell.
 */
export async function listModels(signal) {
  /** @type {Model[]} */
  const models = [];
  let token = "";
  do {
    const page = await ask(`/api/models?page_token=${encodeURIComponent(token)}`, signal ? { signal } : {});
    models.push(...page.models);
    token = page.next_page_token ?? "";
  } while (token);
  return models;
}

/**
 * Versions under their names, each newest first.
 *
 * @param {Model[]} models
 * @returns {Map<string, Model[]>}
 */
export function byName(models) {
  const groups = Map.groupBy(models, nameOf);
  for (const versions of groups.values()) versions.sort((a, b) => versionOf(b) - versionOf(a));
  return groups;
}

/** @param {{reference: string}} model */
export function nameOf(model) {
  return model.reference.split("@")[0] ?? "";
}

/** @param {{reference: string}} model */
export function versionOf(model) {
  return Number(model.reference.split("@")[1]);
}

/**
 * The version that a reference means: "name" (the newest), "name@3" or "name@alias".
 *
 * @param {Model[]} models
 * @param {string} reference
 */
export function resolve(models, reference) {
  const [name, which] = reference.split("@");
  const versions = byName(models).get(name ?? "") ?? [];
  if (which === undefined) return versions[0];
  return versions.find((each) => each.reference === reference || each.aliases.includes(which));
}

/**
 * A measure, where it is a number.
 *
 * @param {Model} model
 * @param {string} key
 */
export function metric(model, key) {
  const value = model.metrics[key];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/**
 * Whether a model is found by what is searched for: parts of its name, its classes or aliases.
 *
 * @param {Model} model
 * @param {string} text Every word must be found.
 */
export function matches(model, text) {
  const all = [model.reference, ...model.classes.slice(1), ...model.aliases].join("\n").toLowerCase();
  return text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word));
}
