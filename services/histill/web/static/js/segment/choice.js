// Which models can be chosen, and which are.

import { ask } from "../api.js";
import { at } from "../dom.js";

/**
 * A model that answers.
 *
 * @typedef {object} Served
 * @property {string} reference "name@3".
 * @property {string[]} aliases
 * @property {{index: number, name: string, color: number[]}[]} classes
 * @property {number} parameters
 */

/** As the value of the second choice: nothing to compare with. */
export const NONE = "none";

const REMEMBERED = "histill.model";

/** @type {Map<string, Served>} By every reference and alias that can be chosen. */
let offered = new Map();

/** @param {string} reference */
export function served(reference) {
  return offered.get(reference);
}

/**
 * Asks what is served and offers it; what is chosen stays so while it is served.
 *
 * @throws {ApiError}
 */
export async function refresh() {
  const { models } = /** @type {{models?: Served[]}} */ (await ask("/api/served"));
  offered = new Map((models ?? []).flatMap((model) => names(model).map((name) => [name, model])));
  const [first, second] = [at("model", HTMLSelectElement), at("model-b", HTMLSelectElement)];
  const [chosen, other] = [first.value, second.value];
  const options = () => [...offered.keys()].map((name) => new Option(name, name));
  first.replaceChildren(...options());
  second.replaceChildren(new Option("nothing", NONE), ...options());
  first.disabled = second.disabled = offered.size === 0;
  if (!offered.size) first.replaceChildren(new Option("none yet", ""));
  first.value = offered.has(chosen) ? chosen : preferred();
  second.value = offered.has(other) ? other : NONE;
  at("no-model").hidden = offered.size > 0;
}

/**
 * Its aliases first: they go on to the next version by themselves.
 *
 * @param {Served} model
 */
function names({ reference, aliases }) {
  const name = reference.split("@")[0];
  return [...(aliases ?? []).map((alias) => `${name}@${alias}`), reference];
}

function preferred() {
  const remembered = recall();
  if (offered.has(remembered)) return remembered;
  const all = [...offered.keys()];
  return all.find((each) => each.endsWith("@production")) ?? all[0] ?? "";
}

function recall() {
  try {
    return localStorage.getItem(REMEMBERED) ?? "";
  } catch {
    return ""; // Storage is forbidden.
  }
}

/** @param {string} reference */
export function remember(reference) {
  try {
    localStorage.setItem(REMEMBERED, reference);
  } catch {
    // Storage is forbidden: it is chosen anew the next time.
  }
}
