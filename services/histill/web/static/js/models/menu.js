// The small menu of a card: other aliases than production.

import { element } from "../dom.js";

// As the registry takes it.
const PATTERN = "[a-z][a-z0-9\\-]{0,30}";
const WORDS = "Point another alias here…";

/**
 * @param {import("./catalog.js").Model} model
 * @param {import("./card.js").Acts} acts
 */
export function menu(model, acts) {
  const { reference } = model;
  const input = element("input", {
    type: "text",
    required: true,
    pattern: PATTERN,
    title: "A letter, then up to 30 of a–z, 0–9 and -",
    placeholder: "staging",
    autocomplete: "off",
    spellcheck: "false",
    "data-act": "alias",
  });
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    acts.point(reference, input.value);
  };
  const label = element("label", {}, "Alias ", input);
  const button = element("button", { class: "small", "data-act": "point" }, "Point here");
  const form = element("form", { submit }, label, button);
  const removals = model.aliases.map((alias) =>
    element(
      "button",
      { type: "button", class: "plain small", click: () => acts.remove(reference, alias) },
      `Remove ${alias}`,
    ),
  );
  return element(
    "details",
    { class: "menu", "data-fold": `menu ${reference}` },
    element("summary", { "aria-label": `${WORDS} ${reference}` }, WORDS),
    form,
    ...removals,
  );
}
