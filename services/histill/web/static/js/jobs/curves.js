// Measures over the steps, kept small however long a job runs.

import { measure } from "./wording.js";

// More points than a screen has columns show nothing more.
const MOST_POINTS = 4000;
const AFTER_TRAINING = new Set(["exporting", "quantizing", "publishing"]);
const LOSSES = new Set(["loss", "ce", "dice_loss", "kd", "overlap", "edge", "affinity"]);
/** @type {Record<string, string>} */
const LABELS = {
  loss: "loss",
  ce: "cross-entropy",
  dice_loss: "1 − soft Dice",
  kd: "distillation (KL)",
  val_dice: "Dice",
  val_iou: "IoU",
  val_nsd2: "surface Dice (2 px)",
  hard_loss: "generator 1",
  simple_loss: "generator 2",
  hard_share: "share of difficult samples",
  agreement_hard: "agreement, difficult samples",
  agreement_simple: "agreement, simple samples",
  hard_distance: "distance of statistics, generator 1",
  simple_distance: "distance of statistics, generator 2",
  hard_apart: "disagreement, generator 1",
};

/** @typedef {"loss" | "dice" | "weights" | "other"} ChartName */

/**
 * The chart of a measure.
 *
 * @param {string} name Such as "val_dice".
 * @returns {ChartName | null} null: it is not drawn.
 */
export function chartOf(name) {
  if (name === "step_seconds") return null;
  if (name.startsWith("teacher_weight_")) return "weights";
  if (LOSSES.has(name) || name.endsWith("_loss")) return "loss";
  if (/^(val|agreement)_|_share$|^forgetting$/.test(name)) return "dice";
  return "other";
}

/**
 * The words for a measure.
 *
 * @param {string} name
 * @param {string[]} teachers References, as the job's spec has them.
 */
export function labelOf(name, teachers) {
  if (name.startsWith("teacher_weight_")) {
    const index = Number(name.slice("teacher_weight_".length));
    return teachers[index] ?? `teacher ${index + 1}`;
  }
  return LABELS[name] ?? name.replace(/^val_/, "").replaceAll("_", " ");
}

/** One measure: steps that grow, and a value at each. */
export class Curve {
  /** @type {number[]} */
  steps = [];
  /** @type {number[]} */
  values = [];

  /**
   * @param {number} step At or after the last one, whose value it takes over if it is the same.
   * @param {number} value
   */
  add(step, value) {
    if (this.steps.at(-1) === step) {
      this.values[this.values.length - 1] = value;
      return;
    }
    this.steps.push(step);
    this.values.push(value);
    if (this.steps.length > MOST_POINTS) this.#thin();
  }

  /** @param {number} step Of the first point to forget. */
  dropFrom(step) {
    while ((this.steps.at(-1) ?? -Infinity) >= step) {
      this.steps.pop();
      this.values.pop();
    }
  }

  /** The last, least and largest value, in words. */
  summary() {
    const finite = this.values.filter(Number.isFinite);
    const least = finite.reduce((a, b) => Math.min(a, b), Infinity);
    const most = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    const words = (/** @type {number} */ value) => (Number.isFinite(value) ? measure(value) : "none");
    return { last: measure(this.values.at(-1)), least: words(least), most: words(most) };
  }

  /**
   * Keeps the least and the largest value of each equal part of the run, so that no peak is lost
   * and its beginning stays as fine as its end.
   */
  #thin() {
    const first = this.steps[0] ?? 0;
    const last = this.steps.length - 1;
    const width = (4 * ((this.steps[last] ?? 0) - first + 1)) / MOST_POINTS;
    /** @type {Map<number, [least: number, most: number]>} */
    const parts = new Map();
    for (const [index, step] of this.steps.entries()) {
      const part = Math.floor((step - first) / width);
      const [least, most] = parts.get(part) ?? [index, index];
      const value = this.values[index] ?? 0;
      parts.set(part, [
        value < (this.values[least] ?? 0) ? index : least,
        value > (this.values[most] ?? 0) ? index : most,
      ]);
    }
    const kept = new Set([...parts.values()].flatMap(([a, b]) => (a < b ? [a, b] : [b, a])));
    kept.add(last);
    const indices = [...kept].toSorted((a, b) => a - b);
    this.steps = indices.map((i) => this.steps[i] ?? 0);
    this.values = indices.map((i) => this.values[i] ?? 0);
  }
}

/** All measures of a job. */
export class Curves {
  /** @type {Map<string, Curve>} */
  #byName = new Map();
  #step = -1;

  /**
   * Takes up what an event tells.
   *
   * @param {import("./wording.js").Progress} progress
   * @param {Record<string, number | string>} metrics
   * @returns {boolean} Whether there is something new to draw.
   */
  add({ stage, step }, metrics) {
    const training = stage === "training";
    // Other stages count images, not steps.
    if (!training && !AFTER_TRAINING.has(stage)) return false;
    // The run went back to an earlier state, or an attempt began anew: what followed is void.
    if (training && step <= this.#step) {
      for (const curve of this.#byName.values()) curve.dropFrom(step);
    }
    this.#step = step;
    for (const [name, value] of Object.entries(metrics)) {
      const number = Number(value);
      if (chartOf(name) === null || Number.isNaN(number)) continue;
      const curve = this.#byName.get(name) ?? new Curve();
      this.#byName.set(name, curve);
      curve.add(step, number);
    }
    return training || Object.keys(metrics).length > 0;
  }

  /**
   * The measures of one chart, the whole before its parts.
   *
   * @param {ChartName} chart
   * @returns {[string, Curve][]}
   */
  of(chart) {
    const found = [...this.#byName].filter(([name, each]) => chartOf(name) === chart && each.steps.length);
    const order = ["loss", "val_dice"];
    const rank = (/** @type {string} */ name) => (order.includes(name) ? 0 : 1);
    return found.toSorted(([a], [b]) => rank(a) - rank(b) || (a < b ? -1 : 1));
  }

  /** The last step of all. */
  get until() {
    return Math.max(1, ...[...this.#byName.values()].map((each) => each.steps.at(-1) ?? 0));
  }

  /** How many points there are in all. */
  get points() {
    return [...this.#byName.values()].reduce((sum, each) => sum + each.steps.length, 0);
  }
}
