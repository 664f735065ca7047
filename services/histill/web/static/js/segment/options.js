// Which part of a file is meant, and how large its pixels are.

import { at } from "../dom.js";

/** Names of the options as they are asked for, and the ids of their fields. */
const FIELDS = { frame: "frame", level: "level", pixel_size_um: "pixel-size" };
const fields = () => Object.entries(FIELDS).map(([name, id]) => ({ name, input: at(id, HTMLInputElement) }));

/**
 * What is set; zeros are as good as nothing.
 *
 * @returns {Record<string, string>}
 */
export function options() {
  const values = fields().map(({ name, input }) => [name, input.value.trim()]);
  return Object.fromEntries(values.filter(([, value]) => value && value !== "0"));
}

/**
 * Tells of changes to options that can be; the browser tells of others.
 *
 * @param {() => void} changed
 */
export function watchOptions(changed) {
  const inputs = fields().map(({ input }) => input);
  for (const each of inputs) {
    each.addEventListener("change", () => {
      if (inputs.every((input) => input.reportValidity())) changed();
    });
  }
}

/** Forgets what was of one file; how large its pixels are may hold for the next one too. */
export function forgetPart() {
  at("frame", HTMLInputElement).value = at("level", HTMLInputElement).value = "";
}
