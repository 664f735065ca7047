// Where the reader was in each entry of the history: how far down, and at which control.

/** @type {Map<string, {top: number, focused: Element | null}>} */
const kept = new Map();
/** The entry in sight. */
let entry = "";

/** Takes over from the browser, which would scroll before a view is in sight. */
export function places() {
  history.scrollRestoration = "manual";
  enter();
}

/** The present entry of the history is the one in sight. */
export function enter() {
  entry = name();
}

/** Keeps the place in the entry that is about to go out of sight. */
export function keep() {
  kept.set(entry, { top: scrollY, focused: document.activeElement });
}

/**
 * Finds the place in the entry that has come into sight.
 *
 * @param {object} how
 * @param {HTMLElement | null} how.heading Where to begin where there was no place yet.
 * @param {boolean} how.back The reader came back by the browser's buttons.
 */
export function restore({ heading, back }) {
  enter();
  const place = back ? kept.get(entry) : undefined;
  const focused = place?.focused;
  if (focused instanceof HTMLElement && focused.isConnected && focused.checkVisibility()) {
    focused.focus({ preventScroll: true });
  } else heading?.focus({ preventScroll: true });
  scrollTo(0, place?.top ?? 0);
  // Once more when the view has drawn what it had at hand.
  if (place?.top) requestAnimationFrame(() => scrollTo(0, place.top));
}

/** Names the present entry of the history, and marks it so that it is known again. */
function name() {
  const known = history.state?.entry;
  if (typeof known === "string") return known;
  const made = String(Math.random());
  history.replaceState({ ...history.state, entry: made }, "");
  return made;
}
