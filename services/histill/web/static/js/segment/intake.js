// How an image comes onto the page: dropped, chosen, pasted, or the sample.

import { answer } from "../api.js";
import { at } from "../dom.js";
import { messageOf } from "../words.js";

const SAMPLE = "/static/sample.jpg";

/**
 * Takes images from now on.
 *
 * @param {(file: File) => void} take
 * @param {(words: string) => void} refuse
 */
export function takeImages(take, refuse) {
  const input = at("file", HTMLInputElement);
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    if (file) take(file);
    input.value = ""; // The same file may be chosen again.
  });
  at("sample").addEventListener("click", async () => {
    try {
      const blob = await (await answer(SAMPLE)).blob();
      take(new File([blob], "sample.jpg", { type: blob.type }));
    } catch (error) {
      refuse(`The sample did not come. ${messageOf(error)}`);
    }
  });
  document.addEventListener("paste", ({ target, clipboardData }) => {
    const [file] = clipboardData?.files ?? [];
    if (file && shown() && !(target instanceof HTMLInputElement)) take(file);
  });
  takeDrops(take, refuse);
}

/**
 * Anywhere on the view will do. In other views nothing is taken, but the browser must not open the
 * file in the page's place either.
 *
 * @param {(file: File) => void} take
 * @param {(words: string) => void} refuse
 */
function takeDrops(take, refuse) {
  const zone = at("drop");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    if (shown()) zone.classList.add("over");
    else if (event.dataTransfer) event.dataTransfer.dropEffect = "none";
  });
  document.addEventListener("dragleave", (event) => {
    // Told for every element that is left; out of the window, nothing is entered.
    if (!event.relatedTarget) zone.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    if (!shown()) return;
    const { files = [], items = [] } = event.dataTransfer ?? {};
    const [file] = files;
    if (items[0]?.webkitGetAsEntry?.()?.isDirectory) refuse("That is a folder. Drop one image.");
    else if (file) take(file);
    if (file && files.length > 1) refuse(`Only ${file.name} was taken: one image at a time.`);
  });
}

/** @param {DragEvent} event */
function carriesFiles({ dataTransfer }) {
  return dataTransfer?.types.includes("Files") ?? false;
}

function shown() {
  return !at("view-segment").hidden;
}
