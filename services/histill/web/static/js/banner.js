// The line under the page's head that tells what is lost, and what works meanwhile.

import { at } from "./dom.js";
import { connection, lostParts } from "./lost.js";
import { sentence } from "./words.js";

/** @type {Record<import("./lost.js").Part, string>} */
const MEANWHILE = {
  server: "What is on the page stays here.",
  inference: "Jobs and models can be seen meanwhile; images are segmented when it is back.",
  registry: "Images are still segmented with models that are loaded.",
  jobs: "Images are still segmented, and models seen; what is running goes on.",
};

/** Shows and hides #lost as parts go and come back. */
export function banner() {
  connection.addEventListener("parts", () => {
    const parts = lostParts();
    const away = parts.find(([part]) => part === "server");
    const told = away ? [away] : parts;
    const words = told.map(([part, message]) => `${sentence(message)} ${MEANWHILE[part]}`).join(" ");
    const place = at("lost");
    place.hidden = told.length === 0;
    const text = words && `${words} The page asks again by itself every few seconds.`;
    // An alert is read out each time that its text is set.
    if (place.textContent !== text) place.textContent = text;
  });
}
