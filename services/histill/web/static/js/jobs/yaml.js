// Writes YAML of plain values: what is small on one line, all else as blocks.

// What YAML takes for something else than text, whatever its case.
const WORDS = /^(true|false|yes|no|on|off|y|n|null)$/i;
const PLAIN = /^[A-Za-z][\w@./-]*( [\w@./-]+)*$/;
// Characters that JSON leaves as they are, and YAML does not allow or takes for line ends.
const ODD = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;
const WIDTH = 100;

/**
 * A YAML document.
 *
 * @param {Record<string, unknown>} values Texts, numbers, booleans, lists and mappings of such.
 */
export function yamlOf(values) {
  return block(values, 0);
}

/**
 * @param {object} values
 * @param {number} depth
 * @returns {string}
 */
function block(values, depth) {
  const indent = "  ".repeat(depth);
  let text = "";
  for (const [name, value] of Object.entries(values)) {
    const key = `${indent}${scalar(name)}:`;
    const line = `${key} ${flow(value)}`;
    // The kind's own mapping is always a block: there the eye looks for the parts.
    if (isMapping(value) && Object.keys(value).length && (!depth || line.length > WIDTH || !flat(value))) {
      text += `${key}\n${block(value, depth + 1)}`;
    } else if (Array.isArray(value) && value.length && line.length > WIDTH) {
      text += `${key}\n${value.map((each) => `${indent}  - ${flow(each)}\n`).join("")}`;
    } else {
      text += `${line}\n`;
    }
  }
  return text;
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function flow(value) {
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (isMapping(value)) {
    const pairs = Object.entries(value).map(([name, each]) => `${scalar(name)}: ${flow(each)}`);
    return `{${pairs.join(", ")}}`;
  }
  return scalar(value);
}

/** @param {unknown} value */
function scalar(value) {
  if (typeof value === "number") return number(value);
  if (typeof value !== "string") return String(value);
  if (PLAIN.test(value) && !WORDS.test(value)) return value;
  return JSON.stringify(value).replace(ODD, (odd) => {
    return `\\u${odd.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** @param {number} value Readers want a point before an exponent. */
function number(value) {
  if (!Number.isFinite(value)) {
    return Number.isNaN(value) ? ".nan" : value > 0 ? ".inf" : "-.inf";
  }
  return String(value).replace(/^(-?\d+)e/, "$1.0e");
}

/** @param {object} value Whether it holds no further mappings. */
function flat(value) {
  return !Object.values(value).some(isMapping);
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
function isMapping(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
