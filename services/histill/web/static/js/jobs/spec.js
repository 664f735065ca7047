// What a job may be told: defaults of all fields, and the fields that the form offers.
// A test holds both to the service's own.

/** @typedef {import("./wording.js").Kind} Kind */
/** @typedef {import("./wording.js").Job} Job */

const NETWORK = { architecture: "unet", width: 8, depth: 4, norm: "batch" };
const TRAINING = {
  steps: 300, batch_size: 8, crop_size: 128, learning_rate: 0.003, weight_decay: 0.0001, seed: 0,
  augment: true, labeled_images: 0, accumulate: 1, precision: "float32", channels_last: false,
  ema_decay: 0, validations: 3, patience: 0,
};
const BOUNDARY = { mode: "distance", beta: 4, sigma: 1.5, radius: 2, unit: "px", fuzzy: 0 };
const WEIGHTING = {
  grain: "image", score: "dice", temperature: 0.03, min_weight: 0.05, band: 2, unlabeled: "transfer",
};
const RAMP = { start: 1, end: 1, after: 0, until: 1 };

/** @type {Record<Kind, Record<string, unknown>>} */
export const DEFAULTS = {
  supervised: { network: NETWORK, training: TRAINING, boundary: BOUNDARY },
  multi_teacher: {
    student: NETWORK, training: TRAINING, boundary: BOUNDARY, teacher_weighting: WEIGHTING,
    temperature: 1, supervised_weight: 1, distillation_weight: 3, overlap_weight: 3,
    edge_weight: 0, affinity_weight: 0, supervised_ramp: RAMP, distillation_ramp: RAMP,
    edge_ramp: RAMP, affinity_ramp: RAMP, labeled_share: 0.5, teacher_views: 1, class_maps: {},
  },
  data_free: {
    student: NETWORK,
    training: {
      steps: 1500, student_steps: 5, batch_size: 32, image_size: 0, learning_rate: 0.003,
      weight_decay: 0.0001, seed: 0, overlap_weight: 1, ema_decay: 0, rollbacks: 3,
    },
    generators: {
      mode: "average", decay: 0.95, width: 16, noise: 64, learning_rate: 0.002,
      adversarial_weight: 1, adversary: "log", statistics_weight: 1, balance_weight: 1,
      confidence_weight: 1, warmup: 0.05, agreed_only: false,
    },
    samples: { hard_share: 0.5, rule: "adaptive", memory_share: 0.5, memory: 4096, blending: 1 },
    class_shares: {}, keep_generators: false,
  },
};

/**
 * A control of the form.
 *
 * @typedef {object} Field
 * @property {string} id Of the control.
 * @property {Partial<Record<Kind, string>>} paths Within the kind's spec; a kind without does not
 *   have it.
 * @property {[number, number]} [range] Least and largest value; a field without is text.
 * @property {Partial<Record<Kind, [number, number]>>} [ranges] Where a kind has another.
 */

/**
 * @param {string} path
 * @param {Kind[]} [kinds]
 * @returns {Field["paths"]}
 */
const same = (path, kinds = ["supervised", "multi_teacher", "data_free"]) =>
  Object.fromEntries(kinds.map((kind) => [kind, path]));
/** @type {Kind[]} */
const DATA = ["supervised", "multi_teacher"];
/** @type {Kind[]} */
const TAUGHT = ["multi_teacher", "data_free"];
/** @param {string} name */
const network = (name) => ({
  supervised: `network.${name}`, multi_teacher: `student.${name}`, data_free: `student.${name}`,
});

/** @type {Field[]} In the order in which the YAML has them. */
export const FIELDS = [
  { id: "new-dataset", paths: same("dataset", DATA) },
  { id: "new-output", paths: same("output_model") },
  { id: "new-teachers", paths: same("teachers", TAUGHT) },
  { id: "new-architecture", paths: network("architecture") },
  { id: "new-width", paths: network("width"), range: [3, 128] },
  { id: "new-depth", paths: network("depth"), range: [2, 6] },
  { id: "new-steps", paths: same("training.steps"), range: [1, 1e6], ranges: { data_free: [1, 1e7] } },
  {
    id: "new-batch", paths: same("training.batch_size"), range: [1, 512], ranges: { data_free: [4, 4096] },
  },
  { id: "new-crop", paths: same("training.crop_size", DATA), range: [16, 2048] },
  { id: "new-image-size", paths: same("training.image_size", ["data_free"]), range: [0, 1024] },
  { id: "new-rate", paths: same("training.learning_rate"), range: [1e-6, 1] },
  { id: "new-labeled", paths: same("training.labeled_images", DATA), range: [0, 1e6] },
  { id: "new-seed", paths: same("training.seed"), range: [0, 2 ** 31 - 1] },
  { id: "new-boundary", paths: same("boundary.mode", DATA) },
  { id: "new-grain", paths: same("teacher_weighting.grain", ["multi_teacher"]) },
];

/** Fields of the job itself. */
export const ABOUT = /** @type {const} */ ({
  "new-display-name": "display_name", "new-priority": "priority", "new-pool": "pool",
});

/**
 * The value at a path, such as "training.steps"; undefined where there is none.
 *
 * @param {Record<string, any> | undefined} values
 * @param {string} path
 * @returns {any}
 */
export function valueAt(values, path) {
  /** @type {any} */
  let found = values;
  for (const step of path.split(".")) found = found?.[step];
  return found;
}

/**
 * @param {Record<string, any>} values Is changed.
 * @param {string} path
 * @param {unknown} value undefined removes it.
 */
export function setAt(values, path, value) {
  const [first = "", ...rest] = path.split(".");
  if (rest.length) {
    values[first] ??= {};
    setAt(values[first], rest.join("."), value);
    if (!Object.keys(values[first]).length) delete values[first];
  } else if (value === undefined) delete values[first];
  else values[first] = value;
}

/**
 * A job as one would write it: without what the service sets, and what is at its default.
 *
 * @param {Job} job
 * @param {Kind} kind
 * @returns {Record<string, any>}
 */
export function written(job, kind) {
  /** @type {Record<string, any>} */
  const found = {};
  if (job.display_name) found["display_name"] = job.display_name;
  found[kind] = without(job[kind] ?? {}, DEFAULTS[kind]);
  if (job.priority) found["priority"] = job.priority;
  if (job.pool && job.pool !== "default") found["pool"] = job.pool;
  return found;
}

/**
 * @param {Record<string, any>} values
 * @param {any} defaults
 */
function without(values, defaults) {
  /** @type {Record<string, any>} */
  const found = {};
  for (const [name, value] of Object.entries(values)) {
    const usual = defaults?.[name];
    if (typeof value === "object" && !Array.isArray(value)) {
      const rest = without(value, usual);
      if (Object.keys(rest).length) found[name] = rest;
    } else if (value !== usual) found[name] = value;
  }
  return found;
}
