// The view "Jobs": all jobs, newest first, which move while they run.

import { ApiError, ask, connection } from "../api.js";
import { at } from "../dom.js";
import { messageOf, sentence } from "../words.js";
import { follow } from "./following.js";
import { Row } from "./row.js";
import { ended, idOf, stateOf } from "./wording.js";

/** @typedef {import("./wording.js").Job} Job */

const POLL_MS = 5000;
const LONGEST_POLL_MS = 60_000;
// A browser opens six connections to a server; pages of other tabs want some too.
const MOST_STREAMS = 3;
// A stream begins with all that has happened: of older jobs that is much, for a line of a list.
const YOUNG_MS = 10 * 60_000;

/** @type {Map<string, Job>} Newest first. */
let known = new Map();
/** The state that was asked for. */
let listed = "";
/** @type {Map<string, Row>} */
const rows = new Map();
/** @type {Map<string, () => void>} Stops the stream of a job. */
const streams = new Map();
let token = "";
/** The token of older jobs that are asked for, and the first of those that came last. */
let further = "";
let arrived = "";
let wait = POLL_MS;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {AbortController | undefined} Of what is asked; undefined while the view is not seen. */
let asking;
/** @type {AbortSignal | undefined} Of the poll under way. */
let polling;
let drawing = 0;

/** @type {import("../router.js").View} */
export const jobs = { id: "jobs", title: "Jobs", path: /^\/jobs$/, show, hide, fragment: show };

function show() {
  prepare();
  const filter = at("jobs-state", HTMLSelectElement);
  filter.value = new URLSearchParams(location.search).get("state") ?? "all";
  if (filter.selectedIndex < 0) filter.value = "all";
  // Whoever comes back finds the list, and its place in it, as they were until the answer is there.
  if (filter.value === listed) start();
  else begin();
}

function hide() {
  document.removeEventListener("visibilitychange", turn);
  rest();
}

let prepared = false;
function prepare() {
  if (prepared) return;
  prepared = true;
  at("jobs-state").addEventListener("change", () => {
    const state = at("jobs-state", HTMLSelectElement).value;
    history.replaceState(history.state, "", state === "all" ? "/jobs" : `/jobs?state=${state}`);
    begin();
  });
  at("jobs-more").addEventListener("click", () => void more());
  connection.addEventListener("back", () => {
    if (asking) void poll(asking.signal);
  });
}

/** Forgets what is shown, and asks anew. */
function begin() {
  rest();
  known = new Map();
  token = "";
  at("jobs").replaceChildren();
  rows.clear();
  for (const id of ["jobs-empty", "jobs-none", "jobs-more", "jobs-problem"]) at(id).hidden = true;
  listed = at("jobs-state", HTMLSelectElement).value;
  start();
}

function start() {
  at("jobs-table").setAttribute("aria-busy", "true");
  document.addEventListener("visibilitychange", turn);
  turn();
}

/** Asks while the document is seen, and only then. */
function turn() {
  if (document.hidden) return rest();
  if (asking) return;
  asking = new AbortController();
  wait = POLL_MS;
  void poll(asking.signal);
}

function rest() {
  clearTimeout(timer);
  asking?.abort();
  asking = undefined;
  cancelAnimationFrame(drawing);
  drawing = 0;
  for (const stop of streams.values()) stop();
  streams.clear();
}

/** @param {AbortSignal} signal */
async function poll(signal) {
  if (polling === signal) return; // its answer is on the way
  polling = signal;
  clearTimeout(timer);
  try {
    const page = await get("", signal);
    if (signal.aborted) return;
    merge(page.jobs, page.next_page_token);
    await refreshOthers(page.jobs, signal);
    if (signal.aborted) return;
    wait = POLL_MS;
    problem("");
    draw();
  } catch (error) {
    if (signal.aborted) return;
    wait = Math.min(2 * wait, LONGEST_POLL_MS);
    const words = sentence(messageOf(error));
    problem(`${words} The list may be out of date; trying again.`);
  }
  polling = undefined;
  at("jobs-table").setAttribute("aria-busy", "false");
  timer = setTimeout(() => void poll(signal), wait);
}

async function more() {
  const signal = asking?.signal;
  const from = token;
  // Not disabled meanwhile: it would lose the focus.
  if (!signal || !from || further === from) return;
  further = from;
  try {
    const page = await get(from, signal);
    if (token !== from) return; // the list began anew
    for (const job of page.jobs) known.set(job.name, job);
    token = page.next_page_token;
    arrived = page.jobs[0]?.name ?? "";
    draw();
  } catch (error) {
    if (!signal.aborted) problem(sentence(messageOf(error)));
  } finally {
    further = "";
  }
}

/**
 * @param {string} pageToken
 * @param {AbortSignal} signal
 * @returns {Promise<{jobs: Job[], next_page_token: string}>}
 */
function get(pageToken, signal) {
  const query = new URLSearchParams();
  if (pageToken) query.set("page_token", pageToken);
  const state = at("jobs-state", HTMLSelectElement).value;
  if (state !== "all") query.set("state", state);
  return ask(`/api/jobs?${query}`, { signal });
}

/**
 * Takes up the newest jobs. One that should be among them and is not was removed, or is in another
 * state than is asked for.
 *
 * @param {Job[]} page
 * @param {string} next Empty when there are no others.
 */
function merge(page, next) {
  // Of those between the newest that were known and the oldest that are told, nothing is known.
  if (!page.some((job) => known.has(job.name))) {
    known = new Map();
    token = next;
  }
  const oldest = next ? (page.at(-1)?.create_time ?? "") : "";
  const names = new Set(page.map((job) => job.name));
  const rest = [...known.values()].filter(
    (job) => !names.has(job.name) && instant(job.create_time) <= instant(oldest),
  );
  known = new Map([...page, ...rest].map((job) => [job.name, job]));
}

/**
 * Jobs further down that have not ended are asked for one by one: they are few.
 *
 * @param {Job[]} page
 * @param {AbortSignal} signal
 */
async function refreshOthers(page, signal) {
  const names = new Set(page.map((job) => job.name));
  const others = [...known.values()].filter((job) => !names.has(job.name) && !ended(job));
  for (const each of others.slice(0, 20)) {
    try {
      const { job } = await ask(`/api/jobs/${idOf(each)}`, { signal });
      known.set(job.name, job);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      known.delete(each.name);
    }
  }
}

function draw() {
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(() => {
    const place = at("jobs");
    for (const [name, row] of rows) {
      if (known.has(name)) continue;
      row.root.remove();
      rows.delete(name);
    }
    let next = place.firstElementChild;
    for (const [name, job] of known) {
      let row = rows.get(name);
      if (row) row.show(job);
      else rows.set(name, (row = new Row(job)));
      if (row.root === next) next = next.nextElementSibling;
      else place.insertBefore(row.root, next);
    }
    const all = at("jobs-state", HTMLSelectElement).value === "all";
    at("jobs-table").hidden = !known.size;
    at("jobs-empty").hidden = known.size > 0 || !all;
    at("jobs-none").hidden = known.size > 0 || all;
    const left = !token && document.activeElement === at("jobs-more");
    at("jobs-more").hidden = !token;
    if (left) rows.get(arrived)?.root.querySelector("a")?.focus();
    stream();
  });
}

/** Opens streams of the first few young jobs that run, and closes all others. */
function stream() {
  const wanted = [...known.values()]
    .filter((job) => stateOf(job) === "running" && Date.now() - instant(job.start_time) < YOUNG_MS)
    .slice(0, MOST_STREAMS)
    .map((job) => job.name);
  for (const [name, stop] of streams) {
    if (wanted.includes(name)) continue;
    stop();
    streams.delete(name);
  }
  for (const name of wanted) {
    if (!streams.has(name)) streams.set(name, follow(name.replace("jobs/", ""), listener(name)));
  }
}

/** @param {string} name */
function listener(name) {
  const over = () => {
    if (asking) void poll(asking.signal);
  };
  return {
    event: (/** @type {import("./following.js").JobEvent} */ event) => {
      const job = known.get(name);
      // The stream begins with what earlier attempts did.
      if (!job || !event.progress || event.attempt < job.attempt) return;
      job.progress = event.progress;
      Object.assign(job.metrics, event.metrics);
      draw();
    },
    end: over,
    gone: over,
  };
}

/** @param {string} words */
function problem(words) {
  // What is set is read out, the same words once more.
  if (at("jobs-problem").textContent !== words) at("jobs-problem").textContent = words;
  at("jobs-problem").hidden = !words;
}

/** @param {string | undefined} text RFC 3339. */
function instant(text) {
  return text ? Date.parse(text) : -Infinity;
}
