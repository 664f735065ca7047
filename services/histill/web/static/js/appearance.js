// The reader's choice of light or dark; js/theme.js applies it.

import { at } from "./dom.js";

const KEY = "histill:theme";

/** Makes the header's choice work. "auto" follows the system and is not kept. */
export function appearance() {
  const select = at("theme", HTMLSelectElement);
  const tell = () => (select.value = localStorage.getItem(KEY) ?? "auto");
  try {
    tell();
  } catch {
    select.hidden = true; // This browser keeps nothing for us.
    return;
  }
  addEventListener("storage", tell); // Another tab's choice.
  select.addEventListener("change", () => {
    if (select.value === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, select.value);
    document.dispatchEvent(new Event("histill:theme"));
  });
}
