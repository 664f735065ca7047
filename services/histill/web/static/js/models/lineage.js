// Where a model comes from: its teachers, its data, the job that made it.

import { ask } from "../api.js";
import { element } from "../dom.js";

/** @type {Map<string, Promise<string>>} Kinds of jobs, which never change. */
const kinds = new Map();

/**
 * A list of what made a model.
 *
 * @param {import("./catalog.js").Model} model
 */
export function lineage(model) {
  const made = element("dl", { class: "lineage" });
  if (model.teachers.length) {
    const links = model.teachers.map((reference) =>
      element("a", { href: `/models#${reference}` }, reference),
    );
    const [name, value] = fact("Teachers", ...links);
    value.className = "links";
    made.append(name, value);
  }
  if (model.dataset) made.append(...fact("Data", model.dataset));
  else if (model.job) {
    const [name, value] = fact("Data", "not recorded");
    made.append(name, value);
    if (model.teachers.length) void tellDataFree(model.job, value);
  }
  const { job } = model;
  made.append(
    ...(job
      ? fact("Made by", element("a", { href: `/${job}` }, `job ${job.replace(/^jobs\//, "")}`))
      : fact("Made", "elsewhere, and pushed")),
  );
  return made;
}

/**
 * @param {string} name
 * @param {...(Node | string)} value
 */
function fact(name, ...value) {
  return /** @type {const} */ ([element("dt", {}, name), element("dd", {}, ...value)]);
}

/**
 * Says so where the job tells that it used no data.
 *
 * @param {string} job
 * @param {HTMLElement} place
 */
async function tellDataFree(job, place) {
  const known = kinds.get(job) ?? ask(`/api/${job}`).then((found) => String(found.job.kind));
  kinds.set(job, known);
  try {
    if ((await known) === "JOB_KIND_DATA_FREE") {
      place.textContent = "No data: distilled from teachers alone";
    }
  } catch {
    kinds.delete(job); // It is asked again when the card is drawn again.
  }
}
