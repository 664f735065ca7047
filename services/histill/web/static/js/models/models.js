// The view "Models": what there is, where it comes from, and which version is in production.

import { ApiError, connection } from "../api.js";
import { at, element } from "../dom.js";
import { decoded } from "../router.js";
import { may } from "../session.js";
import { sentence } from "../words.js";
import { moved, point, remove, told, undo } from "./aliases.js";
import { listModels, listServed, resolve } from "./catalog.js";
import { draw, light } from "./list.js";

const EVERY_MS = 30_000; // A job's result appears by itself.
const SERVED_MS = 300; // Cards are drawn once where both services answer, and need not wait for one.

/** @type {import("./catalog.js").Catalog | null} */
let all = null;
let drawn = "";
/** @type {AbortController | null} */
let asking = null;
let timer = 0;
let moving = false;
/** Whether the card that the address names is still to be found. */
let seeking = false;

/** @type {import("../router.js").View} */
export const models = {
  id: "models",
  title: "Models",
  path: /^\/models$/,
  show: () => {
    listen();
    if (!moving) at("models-said").textContent = "";
    tellMissing(true);
    seeking = !lightAddressed();
    void load();
    timer = setInterval(() => document.hidden || moving || void load(), EVERY_MS);
  },
  hide: () => {
    asking?.abort();
    clearInterval(timer);
  },
  fragment: () => tellMissing(lightAddressed()),
};

let listening = false;

function listen() {
  if (listening) return;
  listening = true;
  at("models-search").addEventListener("input", () => redraw());
  at("models-again").addEventListener("click", () => void load());
  connection.addEventListener("caller", () => redraw());
  connection.addEventListener("back", () => at("view-models").hidden || void load());
}

/** Asks for all there is, and draws it. */
async function load() {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  const served = listServed(mine.signal);
  try {
    const found = await listModels(mine.signal);
    const late = new Promise((done) => setTimeout(() => done(all?.served), SERVED_MS));
    all = { models: found, served: await Promise.race([served, late]) };
  } catch (error) {
    if (mine.signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    at("models-problem").textContent = error.message;
    at("models-again").hidden = false;
    at("models-waiting").hidden = true;
    return;
  }
  at("models-problem").textContent = "";
  at("models-again").hidden = true;
  redraw();
  // With the first list, whatever is served: later on the reader may be elsewhere.
  if (seeking) tellMissing(lightAddressed());
  seeking = false;
  const told = await served;
  if (mine.signal.aborted) return;
  all = { ...all, served: told };
  redraw();
}

/** Draws what has changed: cards that are the same stay the reader's. */
function redraw() {
  if (all === null) return;
  const text = at("models-search", HTMLInputElement).value.trim();
  const now = JSON.stringify([all, text, may("operator")]);
  if (now === drawn) return;
  drawn = now;
  /** @type {import("./card.js").Acts} */
  const acts = {
    allowed: may("operator"),
    point: (reference, alias) => void act(() => point(reference, alias)),
    remove: (reference, alias) => void act(() => remove(reference, alias)),
  };
  const found = draw(at("models"), all, text, acts);
  at("models-waiting").hidden = true;
  at("models-none").hidden = all.models.length > 0;
  const versions = all.models.length === 1 ? "1 version" : `${all.models.length} versions`;
  at("models-found").textContent = text ? `${found} of ${versions}` : "";
}

/**
 * Goes to the card that the address names after #.
 *
 * @returns {boolean} Whether it is there.
 */
function lightAddressed() {
  const asked = addressed();
  if (!asked || all === null || at("view-models").hidden) return false;
  const search = at("models-search", HTMLInputElement);
  const reference = resolve(all.models, asked)?.reference;
  if (reference !== undefined && !light(at("models"), reference)) {
    search.value = ""; // What is searched for hides it.
    redraw();
    light(at("models"), reference);
  }
  return reference !== undefined;
}

/** @param {boolean} found Whether the model that the address names is there. */
function tellMissing(found) {
  at("models-missing").textContent = found || !addressed() ? "" : `There is no model ${addressed()}.`;
}

/** The model that the address names; "" for none. */
function addressed() {
  return decoded(location.hash.slice(1));
}

/**
 * Moves an alias, tells what changed, and offers to take it back.
 *
 * @param {() => Promise<import("./aliases.js").Move>} moves
 */
async function act(moves) {
  if (moving) return;
  moving = true;
  asking?.abort(); // Its answer would be of before.
  const said = at("models-said");
  const undoing = said.contains(document.activeElement);
  said.className = "said";
  said.textContent = "Changing…";
  try {
    const done = await moves();
    // The cards show it at once; what others have done meanwhile comes with the next answer.
    if (all) all = { ...all, models: moved(all.models, done) };
    redraw();
    said.textContent = `${told(done)} `;
    if (done.from !== done.to) {
      const back = { id: "models-undo", type: "button", class: "plain small" };
      said.append(element("button", { ...back, click: () => void act(() => undo(done)) }, "Undo"));
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    said.classList.add("bad");
    said.textContent = [error.message, error.hint].filter(Boolean).map(sentence).join(" ");
  } finally {
    moving = false;
  }
  // The button that was pressed has gone with its words.
  if (undoing && document.activeElement === document.body) (said.querySelector("button") ?? said).focus();
  await load();
}
