// What a model is, in words: for its card.

import { count, size } from "../words.js";
import { metric, nameOf } from "./catalog.js";

/** @typedef {import("./catalog.js").Model} Model */

// Key, name, how it is written. Those of the first line stand on the card, the rest below a fold.
/** @type {[string, string, (value: number) => string][]} */
const FIRST = [
  ["dice", "Dice", (value) => value.toFixed(3)],
  ["iou", "IoU", (value) => value.toFixed(3)],
  ["nsd2", "Surface Dice, 2 px", (value) => value.toFixed(3)],
  ["pq", "Panoptic quality", (value) => value.toFixed(3)],
  ["agreement_hard", "Agreement, hard samples", (value) => value.toFixed(3)],
  ["agreement_simple", "Agreement, simple samples", (value) => value.toFixed(3)],
];
/** @type {[string, string, (value: number) => string][]} */
const REST = [
  ["hd95", "Hausdorff distance, 95 %", (value) => `${value.toFixed(2)} px`],
  ["ece", "Expected calibration error", (value) => value.toFixed(4)],
  ["temperature", "Fitted temperature", (value) => value.toFixed(3)],
  ["latency_ms", "Speed on one thread where it was trained", (value) => `${value.toFixed(1)} ms`],
  ["model_bytes", "Size as ONNX", size],
  ["dice_lost_in_bfloat16", "Dice lost in bfloat16", (value) => value.toFixed(4)],
  ["dice_lost_in_int8", "Dice lost in int8", (value) => value.toFixed(4)],
];
const ROLES = { MODEL_ROLE_TEACHER: "teacher", MODEL_ROLE_STUDENT: "student", MODEL_ROLE_UNSPECIFIED: "" };

/** @param {Model} model */
export function roleOf(model) {
  return ROLES[model.role];
}

/**
 * Measures as names and values: the most telling, and all others.
 *
 * @param {Model} model
 * @returns {{first: [string, string][], rest: [string, string][]}}
 */
export function measures(model) {
  const known = new Set([...FIRST, ...REST].map(([key]) => key));
  /** @type {(rows: typeof FIRST) => [string, string][]} */
  const worded = (rows) =>
    rows.flatMap(([key, name, written]) => {
      const value = metric(model, key);
      return value === undefined ? [] : [[name, written(value)]];
    });
  const others = Object.keys(model.metrics).filter((key) => !known.has(key));
  const plain = others.map((key) => {
    const value = metric(model, key);
    return /** @type {[string, string]} */ ([nameOfMeasure(key), value?.toFixed(4) ?? "not measurable"]);
  });
  return { first: worded(FIRST), rest: [...worded(REST), ...plain] };
}

/** @param {string} key "dice:nuclei" is that of one class. */
function nameOfMeasure(key) {
  const [measure = "", of] = key.split(":");
  const name = FIRST.find(([known]) => known === measure)?.[1] ?? measure.replaceAll("_", " ");
  return of === undefined ? name : `${name} of ${of}`;
}

/**
 * What it has, such as "41,409 parameters · 173.1 kB · unet · 3 channels".
 *
 * @param {Model} model
 */
export function build(model) {
  return [
    model.parameters ? `${count(model.parameters)} parameters` : "",
    size(model.size_bytes),
    model.architecture,
    `${model.channels} ${model.channels === 1 ? "channel" : "channels"}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

/**
 * A student beside its best teacher: "41,409 parameters, 3.9 times fewer than teacher-unet@1;
 * Dice 0.926 vs 0.945". Nothing when there is none to hold it against.
 *
 * @param {Model} model
 * @param {Model[]} models
 */
export function comparison(model, models) {
  const teachers = models.filter(({ reference }) => model.teachers.includes(reference));
  const [best] = teachers.sort((a, b) => (metric(b, "dice") ?? 0) - (metric(a, "dice") ?? 0));
  if (!best || nameOf(best) === nameOf(model)) return "";
  const words = [];
  if (model.parameters && best.parameters) {
    const ratio = best.parameters / model.parameters;
    const times = ratio >= 1 ? `${factor(ratio)} fewer` : `${factor(1 / ratio)} more`;
    const how = Math.abs(ratio - 1) < 0.05 ? "as many as" : `${times} than`;
    words.push(`${count(model.parameters)} parameters, ${how} ${best.reference}`);
  }
  const [own, theirs] = [metric(model, "dice"), metric(best, "dice")];
  // Of other images it would be no comparison.
  if (own !== undefined && theirs !== undefined && model.dataset === best.dataset) {
    const whose = words.length ? "" : ` of ${best.reference}`;
    words.push(`Dice ${own.toFixed(3)} vs ${theirs.toFixed(3)}${whose}`);
  }
  return words.join("; ");
}

/** @param {number} ratio */
function factor(ratio) {
  return `${ratio < 10 ? ratio.toFixed(1) : count(Math.round(ratio))} times`;
}

/**
 * Whether it segments images, or why not.
 *
 * @param {Model} model
 * @param {import("./catalog.js").Catalog["served"]} served
 */
export function serving(model, served) {
  if (model.task !== "segmentation") return "Not served: it names an image's class and segments nothing.";
  if (!model.servable) return "Not served: it has no model.onnx, which a job's result brings along.";
  if (served === undefined) return "Can be served.";
  if (served === null) return "Can be served; the inference service does not answer now.";
  const found = served.find(({ reference }) => reference === model.reference);
  if (!found) return "Can be served; the inference service does not offer it yet.";
  return found.loaded ? "Served, in memory." : "Served, loaded with its first image.";
}

/**
 * The guarantee of differential privacy; nothing when there is none.
 *
 * @param {Model} model
 */
export function privacy(model) {
  if (!model.dp_epsilon) return "";
  const delta = model.dp_delta ? `, δ = ${model.dp_delta.toExponential()}` : "";
  return `Differentially private: ε = ${model.dp_epsilon}${delta}`;
}
