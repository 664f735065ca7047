// Shows the view of an address, and only that.

import { at } from "./dom.js";
import { enter, keep, places, restore } from "./places.js";

/**
 * One page of the page.
 *
 * @typedef {object} View
 * @property {string} id Its section is "view-" and this.
 * @property {string} title Of the document.
 * @property {RegExp} path Of its addresses; groups are handed to `show`, decoded.
 * @property {(groups: string[]) => void} show Called each time it comes into sight.
 * @property {() => void} [hide] Called when it goes out of sight: it stops asking.
 * @property {() => void} [fragment] Called when only what follows # in the address has changed.
 */

/** @type {View[]} */
let views = [];
/** @type {View | undefined} */
let shown;
/** The address in sight, without what follows #. */
let present = "";
/** The whole one, and the one that was in sight before it. */
let whole = "";
let previous = "";

/** @type {View} */
const missing = {
  id: "missing",
  title: "No such page",
  path: /^/,
  show: () => (at("missing-path").textContent = location.pathname),
};

/**
 * Takes links over, and shows the view of the present address.
 *
 * @param {View[]} all
 */
export function start(all) {
  views = all;
  places();
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link?.href || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey) return;
    if (event.shiftKey || event.altKey || link.hasAttribute("download")) return;
    if ((link.target && link.target !== "_self") || link.origin !== location.origin) return;
    if (!findView(link.pathname)) return;
    // A place within what is shown already is the browser's to find.
    if (link.hash && link.pathname + link.search === present) return keep();
    event.preventDefault();
    go(link.pathname + link.search + link.hash);
  });
  addEventListener("popstate", () => {
    if (location.pathname + location.search === present) within();
    else render({ back: true });
  });
  render({ first: true });
}

/**
 * Goes to an address of the page.
 *
 * @param {string} address
 * @param {{replace?: boolean, state?: Record<string, unknown>}} [options] In place of the present
 *   one; what the history keeps beside the address.
 */
export function go(address, { replace = false, state = {} } = {}) {
  keep();
  const same = new URL(address, location.href).href === location.href;
  history[replace || same ? "replaceState" : "pushState"](state, "", address);
  if (views.length) render({});
}

/** The address that was in sight before the present one; "" when there was none. */
export function before() {
  return previous;
}

/** @param {string} path */
function findView(path) {
  return views.find((each) => each.path.test(path));
}

/** Another place within the same view: one that a link has named, or one that was seen before. */
function within() {
  const seen = Boolean(history.state?.entry);
  if (seen) keep();
  whole = present + location.hash;
  shown?.fragment?.();
  if (seen) restore({ heading: null, back: true });
  else enter();
}

/** @param {{first?: boolean, back?: boolean}} how */
function render({ first = false, back = false }) {
  const view = findView(location.pathname) ?? missing;
  if (back) keep();
  present = location.pathname + location.search;
  [previous, whole] = [whole, present + location.hash];
  shown?.hide?.();
  shown = view;
  // One that stayed open out of sight would still keep all else from being used.
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  for (const each of [...views, missing]) at(`view-${each.id}`).hidden = each !== view;
  title(view.title);
  for (const link of document.querySelectorAll("nav a")) {
    const here = new URL(/** @type {HTMLAnchorElement} */ (link).href).pathname;
    const current = here === "/" ? location.pathname === "/" : under(here);
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = at(`view-${view.id}`).querySelector("h1");
  // A screen reader goes on from the new heading, as after a page that was loaded. A view may
  // then move the focus on, to a field of its own.
  if (!first) restore({ heading, back });
  const groups = view.path.exec(location.pathname) ?? [];
  view.show([...groups].slice(1).map(decoded));
}

/** @param {string} path */
function under(path) {
  return location.pathname === path || location.pathname.startsWith(`${path}/`);
}

/**
 * A part of an address as people read it; one that is no such part stays as it is.
 *
 * @param {string} text
 */
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * Names the document.
 *
 * @param {string} text
 */
export function title(text) {
  document.title = `${text} · histill`;
}
