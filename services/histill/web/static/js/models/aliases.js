// Points aliases at versions, and back again.

import { ApiError, ask } from "../api.js";
import { listModels, nameOf } from "./catalog.js";

/**
 * What a move did.
 *
 * @typedef {object} Move
 * @property {string} name Of the model.
 * @property {string} alias
 * @property {string} from Reference it pointed at; "" for none.
 * @property {string} to Reference it points at now; "" for none.
 */

/**
 * Points an alias at a version.
 *
 * @param {string} reference
 * @param {string} alias
 * @returns {Promise<Move>}
 * @throws {ApiError}
 */
export async function point(reference, alias) {
  const name = nameOf({ reference });
  // The page's own list may be old; what is undone is what was there.
  const from = await target(name, alias);
  await write(name, alias, reference);
  return { name, alias, from, to: reference };
}

/**
 * Takes an alias from a version, unless somebody else has pointed it elsewhere meanwhile.
 *
 * @param {string} reference
 * @param {string} alias
 * @returns {Promise<Move>}
 * @throws {ApiError}
 */
export function remove(reference, alias) {
  return undo({ name: nameOf({ reference }), alias, from: "", to: reference });
}

/**
 * Takes a move back, unless somebody else has pointed the alias elsewhere meanwhile.
 *
 * @param {Move} move
 * @returns {Promise<Move>}
 * @throws {ApiError}
 */
export async function undo({ name, alias, from, to }) {
  const now = await target(name, alias);
  if (now !== to) {
    const where = now ? `points at ${now}` : "is gone";
    throw new ApiError(`${name}@${alias} ${where} by now; it was left as it is.`, { status: 409 });
  }
  if (now !== from) await write(name, alias, from);
  return { name, alias, from: to, to: from };
}

/**
 * The models as they are after a move.
 *
 * @param {import("./catalog.js").Model[]} models
 * @param {Move} move
 */
export function moved(models, { name, alias, to }) {
  return models.map((model) => {
    if (nameOf(model) !== name) return model;
    const others = model.aliases.filter((each) => each !== alias);
    return { ...model, aliases: model.reference === to ? [...others, alias] : others };
  });
}

/**
 * A move in words: "nuclei-student@production: 2 → 3".
 *
 * @param {Move} move
 */
export function told({ name, alias, from, to }) {
  if (from === to) return `${name}@${alias} is ${version(to)} already.`;
  return `${name}@${alias}: ${version(from)} → ${version(to)}`;
}

/** @param {string} reference */
function version(reference) {
  return reference ? reference.split("@")[1] : "none";
}

/**
 * The version an alias points at; "" for none.
 *
 * @param {string} name
 * @param {string} alias
 * @returns {Promise<string>}
 */
async function target(name, alias) {
  const models = await listModels();
  const found = models.find((each) => nameOf(each) === name && each.aliases.includes(alias));
  return found?.reference ?? "";
}

/**
 * @param {string} name
 * @param {string} alias
 * @param {string} reference
 */
async function write(name, alias, reference) {
  const path = `/api/models/${encodeURIComponent(name)}/aliases/${encodeURIComponent(alias)}`;
  if (reference) await ask(path, { method: "PUT", json: { reference } });
  else await ask(path, { method: "DELETE" });
}
