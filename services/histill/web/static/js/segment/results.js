// What was found, in words and numbers.

import { ask } from "../api.js";
import { at, element } from "../dom.js";
import { count } from "../words.js";
import { served } from "./choice.js";

/**
 * @typedef {import("./lane.js").Lane} Lane
 * @typedef {import("./stream.js").ClassFound} ClassFound
 * @typedef {import("./stream.js").Summary} Summary
 */

const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
/** @type {Map<string, Promise<number | undefined>>} Dice in validation by reference. */
const measured = new Map();

/**
 * Shows what a lane has found so far.
 *
 * @param {Lane} lane
 * @param {string} suffix Of the ids of its elements: "" or "-b".
 * @param {() => void} changed Called when a class is switched on or off.
 */
export function showResult(lane, suffix, changed) {
  const { summary } = lane;
  const model = summary?.model ?? served(lane.model)?.reference ?? lane.model;
  at(`result-model${suffix}`).textContent = model;
  at(`milliseconds${suffix}`).textContent = summary
    ? `${milliseconds(summary.times.compute_ms)} ms`
    : missing(lane);
  at(`stages${suffix}`).textContent = summary ? stages(lane, summary) : "";
  at(`warning${suffix}`).hidden = !summary?.out_of_distribution;
  const dice = at(`dice${suffix}`);
  dice.textContent = "";
  if (summary) showDice(dice, summary.model);
  const rows = classesOf(lane).map((each) => rowOf(each, lane, changed));
  const table = at(`classes${suffix}`);
  const focused = table.contains(document.activeElement) ? document.activeElement : null;
  table.replaceChildren(...rows);
  // Who goes through the classes by keyboard stays where they are when the numbers come.
  const index = focused?.getAttribute("data-class");
  const again = index && table.querySelector(`[data-class="${index}"]`);
  if (again instanceof HTMLElement) again.focus();
}

/**
 * The classes of a lane's model; what is known of them before the summary has come.
 *
 * @param {Lane} lane
 * @returns {(ClassFound | {index: number, class_name: string, color: number[], pixels?: undefined})[]}
 */
function classesOf(lane) {
  if (lane.summary) return lane.summary.classes;
  const classes = served(lane.model)?.classes ?? [];
  return classes.map(({ index, name, color }) => ({ index, class_name: name, color }));
}

/**
 * What stands for a number that is not here: it is to come, or will not come.
 *
 * @param {Lane} lane
 */
function missing({ failure }) {
  return failure ? "–" : "…";
}

/**
 * @param {ReturnType<typeof classesOf>[number]} found
 * @param {Lane} lane
 * @param {() => void} changed
 */
function rowOf(found, lane, changed) {
  const numbers = found.pixels === undefined ? Array(3).fill(missing(lane)) : numbersOf(found, lane);
  const cells = numbers.map((each) => element("td", {}, each));
  return element("tr", {}, element("th", { scope: "row" }, nameOf(found, lane, changed)), ...cells);
}

/**
 * @param {{index: number, class_name: string, color: number[]}} found
 * @param {Lane} lane
 * @param {() => void} changed
 */
function nameOf({ index, class_name, color }, lane, changed) {
  const swatch = element("span", { class: "swatch" });
  if (!index) return element("span", { class: "class" }, swatch, class_name);
  swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
  const shown = element("input", { type: "checkbox", "data-class": String(index) });
  shown.checked = !lane.hidden.has(index);
  shown.addEventListener("change", () => {
    if (shown.checked) lane.hidden.delete(index);
    else lane.hidden.add(index);
    changed();
  });
  return element("label", { class: "class" }, shown, swatch, class_name);
}

/**
 * @param {ClassFound} found
 * @param {Lane} lane
 * @returns {(string | HTMLElement)[]} Area, objects, confidence.
 */
function numbersOf({ index, pixels, area_mm2, objects, mean_confidence }, { summary }) {
  const all = summary ? summary.classes.reduce((sum, each) => sum + each.pixels, 0) : 0;
  const share = all ? `${((100 * pixels) / all).toFixed(1)} %` : "";
  const area = area_mm2 ? `${squareMillimetres(area_mm2)} mm²` : `${count(pixels)} px`;
  const sized = element("span", { class: "area" }, area, " ", element("span", { class: "quiet" }, share));
  const sure = pixels ? `${(100 * mean_confidence).toFixed(0)} %` : "–";
  return [sized, index ? count(objects) : "–", sure];
}

/** @param {number} area */
function squareMillimetres(area) {
  return area < 1 ? String(Number(area.toPrecision(3))) : TENTHS.format(area);
}

/**
 * @param {Lane} lane
 * @param {Summary} summary
 */
function stages({ total }, { times }) {
  const told = [
    `decode ${milliseconds(times.decode_ms)}`,
    `wait ${milliseconds(times.queue_ms)}`,
    `compute ${milliseconds(times.compute_ms)}`,
    `write ${milliseconds(times.encode_ms)} ms`,
  ].join(" · ");
  return total ? `${told}; ${count(Math.round(total))} ms from asking to the overlay` : told;
}

/** @param {number} value */
function milliseconds(value) {
  return value < 10 ? value.toFixed(1) : count(Math.round(value));
}

/**
 * @param {HTMLElement} where
 * @param {string} reference
 */
async function showDice(where, reference) {
  if (!measured.has(reference)) measured.set(reference, diceOf(reference));
  const dice = await measured.get(reference);
  const still = where.closest("section")?.querySelector("[id^=result-model]")?.textContent === reference;
  if (dice !== undefined && still) where.textContent = `Dice ${dice.toFixed(3)} in its validation`;
}

/**
 * A courtesy: without a registry, or a measure, nothing is missing.
 *
 * @param {string} reference
 * @returns {Promise<number | undefined>}
 */
async function diceOf(reference) {
  try {
    const { model } = await ask(`/api/models/${encodeURIComponent(reference)}`);
    return model.metrics?.dice;
  } catch {
    measured.delete(reference);
    return undefined;
  }
}

// One run on a busy machine says no more: smaller differences come and go from image to image.
const TELLING = 1.25;

/**
 * Says how two models compare; nothing while one of them has not answered.
 *
 * @param {Lane} one
 * @param {Lane} other
 */
export function showComparison(one, other) {
  const where = at("comparison");
  const [a, b] = [one.summary, other.summary];
  where.hidden = !a || !b;
  if (!a || !b) return;
  const ratio = b.times.compute_ms / a.times.compute_ms;
  const [fast, slow] = ratio >= 1 ? [a.model, b.model] : [b.model, a.model];
  const times = Math.max(ratio, 1 / ratio);
  const speed =
    Number.isFinite(times) && times >= TELLING
      ? `On this image ${fast} was ${times.toFixed(1)} times as fast as ${slow}`
      : "Both took about as long";
  const agreed = one.agreement(other);
  const about = agreed?.exact ? "" : "about ";
  const same = agreed
    ? `they agree on ${about}${(100 * agreed.share).toFixed(1)} % of the pixels`
    : "they have no class in common to agree on";
  where.textContent = `${speed}; ${same}.`;
}
