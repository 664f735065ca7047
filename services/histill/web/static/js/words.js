// Numbers, sizes and times in words.

/**
 * A text that begins and ends as a sentence. A name such as "unet@3" stays as it is written.
 *
 * @param {string} text
 */
export function sentence(text) {
  const word = /^[a-z]+(?=[\s,;:.']|$)/.test(text);
  const whole = word ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return !whole || /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/**
 * What an error says; anything can be thrown.
 *
 * @param {unknown} error
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * A whole number with its thousands apart.
 *
 * @param {number} number
 */
export function count(number) {
  return number.toLocaleString("en");
}

/**
 * A size in bytes, such as "173.1 kB".
 *
 * @param {number} bytes
 */
export function size(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" ? value : value.toFixed(1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

/**
 * A moment in the reader's own time, such as "12 Sep 2026, 14:03".
 *
 * @param {string} text RFC 3339.
 */
export function moment(text) {
  return new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
