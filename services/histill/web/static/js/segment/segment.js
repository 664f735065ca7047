// The view "Segment": an image, and what models see in it.

import { ApiError, connection } from "../api.js";
import { at } from "../dom.js";
import { messageOf } from "../words.js";
import { NONE, refresh, remember, served } from "./choice.js";
import { Downloads } from "./downloads.js";
import { isDicom, localPicture } from "./files.js";
import { takeImages } from "./intake.js";
import { Lane } from "./lane.js";
import { forgetPart, options, watchOptions } from "./options.js";
import { showComparison, showResult } from "./results.js";
import { Stage } from "./stage.js";
import { say, showState } from "./state.js";
import { Work } from "./work.js";

/** @typedef {import("./lane.js").Subject} Subject */

const work = new Work({ news: told, first: begun, done: settle });
/** @type {[Lane, Lane] | null} Made for the first image: a stage that is not seen has no size. */
let lanes = null;
let dicom = false;
/** Whether marks of the present image are still to be set. */
let fresh = false;
/** @type {AbortController} Of the last wait for the stages. */
let settling = new AbortController();
/** Whether it is told that there is no list of models. */
let unlisted = false;
/** @type {Map<Lane, unknown>} What the tables show. */
const listed = new Map();
const downloads = ["", "-b"].map((suffix, index) => new Downloads(suffix, () => asked(index)));

/** @param {"none" | "partial" | "done"} far */
function overlay(far) {
  document.documentElement.dataset.overlay = far;
}

// The image

/** @param {File} file */
async function take(file) {
  if (!file.size) {
    say(`${file.name} is empty. Choose an image.`);
    return;
  }
  performance.mark("histill:taken");
  overlay("none");
  fresh = true;
  settling.abort();
  work.subject?.picture?.close();
  work.subject = null;
  work.reconsider();
  for (const each of downloads) each.end();
  say("");
  /** @type {Subject} */
  const subject = {
    file,
    options: options(),
    picture: null,
    coming: null,
    ready: false,
    sent: true,
    complete: false,
  };
  work.subject = subject;
  begin(subject);
  const [local, isOne] = await looked(subject);
  if (local) subject.coming = arrive(subject, local.picture);
  if (work.subject !== subject) return;
  dicom = isOne;
  if (local) Object.assign(subject, { sent: false, complete: true });
  subject.ready = true;
  choose();
}

/**
 * The picture where the browser can show it, and whether it is DICOM.
 *
 * @param {Subject} subject
 * @returns {Promise<[Awaited<ReturnType<typeof localPicture>>, boolean]>}
 */
async function looked({ file, options }) {
  try {
    return await Promise.all([options.level ? null : localPicture(file), isDicom(file)]);
  } catch {
    return [null, false]; // It cannot be read; sending it tells why.
  }
}

/**
 * Takes the picture once it is decoded; the service has the file meanwhile.
 *
 * @param {Subject} subject
 * @param {Promise<import("./pictures.js").Picture | null>} decoding
 */
async function arrive(subject, decoding) {
  const picture = await decoding;
  if (work.subject !== subject) {
    picture?.close();
    return;
  }
  subject.picture = picture;
  told();
}

/**
 * Makes room for an image.
 *
 * @param {Subject} subject
 */
function begin({ file }) {
  at("drop").classList.add("full");
  at("work").hidden = at("results").hidden = false;
  at("subject").textContent = file.name;
  if (!lanes) makeLanes();
  for (const lane of lanes ?? []) lane.clear();
  work.lanes = [];
  told();
}

function makeLanes() {
  const first = new Lane(new Stage(at("stage"), "The image with its mask"), served);
  at("lane-b").hidden = false;
  const second = new Lane(new Stage(at("stage-b"), "The image with the other model's mask"), served);
  at("lane-b").hidden = true;
  lanes = [first, second];
  paint();
}

// What is chosen

function wantedLanes() {
  if (!lanes) return [];
  const [first, second] = lanes;
  return at("model-b", HTMLSelectElement).value === NONE ? [first] : [first, second];
}

/** Hands the chosen models to the lanes, and asks for what is missing. */
function choose() {
  if (!lanes || !work.subject) return;
  const [first, second] = lanes;
  const chosen = /** @type {const} */ ([
    [first, at("model", HTMLSelectElement).value],
    [second, at("model-b", HTMLSelectElement).value],
  ]);
  for (const [lane, model] of chosen) {
    if (lane.model === model) continue;
    lane.model = model;
    lane.hidden.clear();
    lane.forget();
  }
  work.lanes = wantedLanes();
  const pair = work.lanes.length === 2;
  at("lane-b").hidden = at("result-b").hidden = !pair;
  at("stages-box").classList.toggle("pair", pair);
  first.stage.pair(pair ? second.stage : null);
  paint();
  if (!first.classes) overlay("none");
  work.reconsider();
  told();
}

/** Paints the masks as it is chosen now. */
function paint() {
  work.shaded = at("confidence", HTMLInputElement).checked;
  at("legend").hidden = !work.shaded;
  const opacity = Number(at("opacity", HTMLInputElement).value);
  at("opacity-value").textContent = `${opacity} %`;
  const wish = { outline: at("outline", HTMLInputElement).checked, shaded: work.shaded };
  for (const lane of lanes ?? []) {
    lane.look(wish);
    lane.stage.opacity(opacity / 100);
  }
  settle();
}

// What comes

function told() {
  const { subject } = work;
  showState(work);
  if (!lanes) return;
  lanes.forEach(({ summary }, index) => downloads[index]?.allow(subject !== null && summary !== null, dicom));
  if (subject?.picture) showPicture(subject, subject.picture);
  lanes.forEach((lane, index) => {
    const { summary, failure, model, total } = lane;
    const state = summary ? `${summary.model} ${total}` : `${model} ${failure !== null}`;
    if (listed.get(lane) === state || !work.lanes.includes(lane)) return;
    listed.set(lane, state);
    showResult(lane, index ? "-b" : "", paint);
    at(`caption${index ? "-b" : ""}`).textContent = lane.summary?.model ?? lane.model;
  });
  showComparison(...lanes);
  if (work.lanes.length < 2) at("comparison").hidden = true;
}

/**
 * Shows the picture on every stage, also on those whose model is not asked yet.
 *
 * @param {Subject} subject
 * @param {import("./pictures.js").Picture} picture
 */
function showPicture({ sent, complete }, picture) {
  for (const lane of work.lanes) {
    lane.open(picture);
    if (sent && !complete && lane !== work.running?.lane) lane.stage.more();
  }
}

/**
 * What is asked for who saves a lane's mask.
 *
 * @param {number} index
 * @returns {import("./downloads.js").Asked | null}
 */
function asked(index) {
  const { subject } = work;
  const model = lanes?.[index]?.summary?.model;
  if (!subject || !model) return null;
  return { file: subject.file, options: subject.options, model, several: work.lanes.length > 1 };
}

/** @param {Lane} lane */
function begun(lane) {
  if (fresh && lane === lanes?.[0]) performance.mark("histill:first-overlay");
  if (document.documentElement.dataset.overlay === "none") overlay("partial");
}

/** Waits until all that is chosen is seen. */
async function settle() {
  settling.abort();
  settling = new AbortController();
  const { signal } = settling;
  if (document.documentElement.dataset.overlay === "done") overlay("partial");
  told();
  if (!work.complete) return;
  await Promise.all(work.lanes.map((each) => each.stage.settled(signal)));
  if (signal.aborted || !work.complete || work.running) return;
  if (fresh) performance.mark("histill:overlay");
  fresh = false;
  overlay("done");
}

// Models

async function models() {
  try {
    await refresh();
  } catch (error) {
    if (!(error instanceof ApiError) || !error.passes) {
      if (error instanceof ApiError && error.status === 401) return;
      say(`The list of models did not come. ${messageOf(error)}`);
      unlisted = true;
    }
    return;
  }
  if (unlisted) say("");
  unlisted = false;
  const wanted = new URLSearchParams(location.search).get("model");
  if (wanted && location.pathname === "/") {
    history.replaceState(null, "", "/");
    if (served(wanted)) at("model", HTMLSelectElement).value = wanted;
    else say(`${wanted} is not served.`);
  }
  choose();
}

function show() {
  const { subject } = work;
  // Who was signed out and is back.
  const refused = work.lanes.some(({ failure }) => failure instanceof ApiError && failure.status === 401);
  models();
  if (subject && refused) work.again();
}

/** @type {import("../router.js").View} */
export const segment = { id: "segment", title: "Segment", path: /^\/$/, show };

// Controls

overlay("none");
takeImages((file) => {
  if (work.subject && file.size) forgetPart();
  take(file);
}, say);
at("model").addEventListener("change", () => {
  remember(at("model", HTMLSelectElement).value);
  choose();
});
at("model-b").addEventListener("change", choose);
for (const id of ["fill", "outline"]) at(id).addEventListener("change", paint);
at("opacity").addEventListener("input", paint);
at("confidence").addEventListener("change", () => {
  paint();
  work.reconsider();
});
watchOptions(() => {
  if (work.subject) take(work.subject.file);
});
at("try-now").addEventListener("click", () => work.again());
at("zoom-in").addEventListener("click", () => lanes?.[0].stage.zoomBy(1.5));
at("zoom-out").addEventListener("click", () => lanes?.[0].stage.zoomBy(1 / 1.5));
at("fit").addEventListener("click", () => lanes?.[0].stage.fit());
at("actual-size").addEventListener("click", () => lanes?.[0].stage.actualSize());
connection.addEventListener("back", () => {
  if (!at("view-segment").hidden) models();
});
