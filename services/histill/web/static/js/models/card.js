// One version of a model as a card.

import { element } from "../dom.js";
import { moment } from "../words.js";
import { nameOf, versionOf } from "./catalog.js";
import { build, comparison, measures, privacy, roleOf, serving } from "./describe.js";
import { lineage } from "./lineage.js";
import { menu } from "./menu.js";

/**
 * What cards can do, and may.
 *
 * @typedef {object} Acts
 * @property {boolean} allowed Whether the caller may point aliases.
 * @property {(reference: string, alias: string) => void} point
 * @property {(reference: string, alias: string) => void} remove
 */

/** The alias that clients ask for when they want the version of record. */
export const PRODUCTION = "production";

/**
 * @param {import("./catalog.js").Model} model
 * @param {import("./catalog.js").Catalog} all
 * @param {Acts} acts
 */
export function card(model, all, acts) {
  const { first, rest } = measures(model);
  const compared = comparison(model, all.models);
  const guaranteed = privacy(model);
  const title = element("h2", { tabindex: "-1" }, nameOf(model));
  title.append(element("span", { class: "version" }, `@${versionOf(model)}`));
  const chips = model.aliases.map((alias) => element("span", { class: "chip" }, alias));
  const made = element("article", { class: "model card", "data-reference": model.reference });
  const role = element("span", { class: "role" }, roleOf(model));
  made.append(
    element("div", { class: "model-head" }, title, ...chips, role),
    element("p", { class: "quiet" }, build(model)),
  );
  if (first.length) made.append(figures(first));
  if (compared) made.append(element("p", {}, `${compared}.`));
  made.append(classes(model, all.served), lineage(model));
  if (guaranteed) made.append(element("p", { class: "good" }, guaranteed));
  made.append(element("p", { class: "quiet" }, serving(model, all.served), ...created(model)));
  if (rest.length) made.append(more(model.reference, rest));
  made.append(actions(model, acts));
  return made;
}

/** @param {[string, string][]} pairs */
function figures(pairs) {
  const rows = pairs.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value)),
  );
  return element("dl", { class: "figures" }, ...rows);
}

/**
 * @param {string} reference
 * @param {[string, string][]} pairs
 */
function more(reference, pairs) {
  const rows = pairs.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)),
  );
  return element(
    "details",
    { "data-fold": `measures ${reference}` },
    element("summary", {}, "All measures"),
    element("table", {}, element("tbody", {}, ...rows)),
  );
}

/**
 * Names of the classes beside the colours that masks show them in.
 *
 * @param {import("./catalog.js").Model} model
 * @param {import("./catalog.js").Catalog["served"]} served
 */
function classes(model, served) {
  // A class's colour follows from its index, so that any served model tells it.
  const colors = new Map((served ?? []).flatMap((each) => each.classes.map((one) => [one.index, one.color])));
  const segments = model.task === "segmentation";
  const items = model.classes.flatMap((name, index) => {
    const color = colors.get(index);
    if (!segments) return [element("li", {}, name)];
    if (index === 0) return []; // The background has no colour in a mask.
    const swatch = element("span", { class: "swatch" });
    if (color) swatch.style.backgroundColor = `rgb(${color.join(" ")})`;
    return [element("li", {}, ...(color ? [swatch] : []), name)];
  });
  return element("ul", { class: "classes", "aria-label": "Classes" }, ...items);
}

/** @param {import("./catalog.js").Model} model */
function created({ create_time }) {
  if (!create_time) return [];
  return [" Made ", element("time", { datetime: create_time }, moment(create_time)), "."];
}

/**
 * @param {import("./catalog.js").Model} model
 * @param {Acts} acts
 */
function actions(model, acts) {
  const { reference } = model;
  const made = element("div", { class: "actions" });
  const inProduction = model.aliases.includes(PRODUCTION);
  if (!inProduction && acts.allowed && model.servable) {
    const promote = () => acts.point(reference, PRODUCTION);
    const label = `Promote ${reference} to production`;
    const button = { type: "button", class: "promote", "aria-label": label, "data-act": "promote" };
    made.append(element("button", { ...button, click: promote }, "Promote"));
  }
  if (model.servable) {
    const href = `/?model=${encodeURIComponent(reference)}`;
    const link = { class: "button plain", href, "aria-label": `Segment with it: ${reference}` };
    made.append(element("a", link, "Segment with it"));
  }
  if (acts.allowed) made.append(menu(model, acts));
  else made.append(element("span", { class: "quiet" }, "Promoting takes the role operator."));
  return made;
}
