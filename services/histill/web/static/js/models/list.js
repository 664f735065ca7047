// The list of cards: versions under their names, older ones folded.

import { element } from "../dom.js";
import { card } from "./card.js";
import { byName, matches } from "./catalog.js";

/**
 * Draws all that is found. Folds that were open stay open, what was typed stays, and so does the focus.
 *
 * @param {HTMLElement} place
 * @param {import("./catalog.js").Catalog} all
 * @param {string} text What is searched for; empty finds all.
 * @param {import("./card.js").Acts} acts
 * @returns {number} How many versions were found.
 */
export function draw(place, all, text, acts) {
  const open = new Set([...place.querySelectorAll("details[open]")].map(foldOf));
  const typed = new Map([...place.querySelectorAll("input")].map((each) => [referenceOf(each), each.value]));
  const focus = focused(place);
  const lit = place.querySelector(".lit")?.getAttribute("data-reference");
  let found = 0;
  const groups = [];
  for (const [name, versions] of byName(all.models)) {
    const wanted = versions.filter((each) => matches(each, text));
    if (!wanted.length) continue;
    found += wanted.length;
    const [newest] = versions;
    // What an alias points at is in use, however old it is.
    const shown = wanted.filter((each) => text || each === newest || each.aliases.length);
    const older = wanted.filter((each) => !shown.includes(each));
    const group = element("li", { "aria-label": name }, ...shown.map((each) => card(each, all, acts)));
    if (older.length) {
      group.append(
        element(
          "details",
          { "data-fold": `older ${name}`, class: "older" },
          element("summary", {}, older.length === 1 ? "1 older version" : `${older.length} older versions`),
          element("div", { class: "versions" }, ...older.map((each) => card(each, all, acts))),
        ),
      );
    }
    groups.push(group);
  }
  place.replaceChildren(...groups);
  for (const fold of place.querySelectorAll("details")) fold.open = open.has(foldOf(fold));
  for (const input of place.querySelectorAll("input")) input.value = typed.get(referenceOf(input)) ?? "";
  if (lit) find(place, lit)?.classList.add("lit");
  refocus(place, focus);
  return found;
}

/**
 * Brings the card of a version into sight, and marks it.
 *
 * @param {HTMLElement} place
 * @param {string} reference "name@3"
 * @returns {boolean} Whether it is there.
 */
export function light(place, reference) {
  for (const each of place.querySelectorAll(".lit")) each.classList.remove("lit");
  const found = find(place, reference);
  if (!found) return false;
  const fold = found.closest("details.older");
  if (fold instanceof HTMLDetailsElement) fold.open = true;
  found.classList.add("lit");
  found.querySelector("h2")?.focus({ preventScroll: true });
  found.scrollIntoView({ block: "center" });
  return true;
}

/**
 * @param {HTMLElement} place
 * @param {string} reference
 */
function find(place, reference) {
  return place.querySelector(`[data-reference="${CSS.escape(reference)}"]`);
}

/** @param {Element} fold */
function foldOf(fold) {
  return fold.getAttribute("data-fold");
}

/**
 * Where the focus is: in which card, if any, and by what the control is found again.
 *
 * @param {HTMLElement} place
 */
function focused(place) {
  const active = document.activeElement;
  if (!(active instanceof HTMLElement) || !place.contains(active)) return null;
  return { reference: referenceOf(active), selector: selectorOf(active) };
}

/** @param {HTMLElement} control */
function selectorOf(control) {
  const href = control.getAttribute("href");
  if (control.dataset.act) return `[data-act="${control.dataset.act}"]`;
  if (href) return `a[href="${CSS.escape(href)}"]`;
  const fold = control.closest("summary")?.parentElement;
  return fold ? `[data-fold="${CSS.escape(foldOf(fold) ?? "")}"] > summary` : "h2";
}

/** @param {Element} element */
function referenceOf(element) {
  return element.closest("[data-reference]")?.getAttribute("data-reference") ?? "";
}

/**
 * @param {HTMLElement} place
 * @param {ReturnType<typeof focused>} was
 */
function refocus(place, was) {
  if (!was) return;
  const card = was.reference ? find(place, was.reference) : place;
  const target = card?.querySelector(was.selector) ?? (was.reference ? card?.querySelector("h2") : null);
  if (target instanceof HTMLElement) target.focus({ preventScroll: true });
}
