// The view "Job": one job, its curves and its log, as they come.

import { ApiError, ask, connection } from "../api.js";
import { at } from "../dom.js";
import { title } from "../router.js";
import { messageOf, sentence } from "../words.js";
import { cancelling } from "./cancelling.js";
import { Chart } from "./charts.js";
import { Curves } from "./curves.js";
import { showRecord } from "./facts.js";
import { follow } from "./following.js";
import { Log } from "./log.js";
import { ended, progressWords, shareOf, specOf, stateOf, titleOf } from "./wording.js";

/** @typedef {import("./wording.js").Job} Job */

const CHARTS = /** @type {const} */ (["loss", "dice", "weights", "other"]);
const TICK_MS = 1000;
// While nobody sees the document its title still tells how far the job is; events do not come then.
const UNSEEN_MS = 15_000;
const LONGEST_WAIT_MS = 30_000;

/** What is kept of the job that is shown; a new one for each. */
class Shown {
  /** @type {Job | undefined} */
  job;
  curves = new Curves();
  asking = new AbortController();
  /** @type {(() => void) | undefined} */
  stop;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  ticking;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  again;
  drawing = 0;
  refreshing = false;
  stale = false;
  wait = TICK_MS;
  asked = 0;
  told = "";

  /** @param {string} id */
  constructor(id) {
    this.id = id;
  }
}

/** @type {Shown | undefined} */
let shown;
/** @type {Chart[]} */
let charts = [];
/** @type {Log | undefined} */
let log;

/** @type {import("../router.js").View} */
export const job = { id: "job", title: "Job", path: /^\/jobs\/(?!new$)([^/]+)$/, show, hide };

/** @param {string[]} groups */
function show([id = ""]) {
  hide();
  if (!log) prepare();
  const mine = new Shown(id);
  shown = mine;
  for (const chart of charts) chart.clear();
  log?.clear();
  at("job-body").hidden = true;
  at("job-title").textContent = "Job";
  say("job-problem", "");
  say("job-status", "");
  document.documentElement.dataset["points"] = "0";
  document.addEventListener("visibilitychange", look);
  mine.ticking = setInterval(() => {
    draw(mine);
    if (document.hidden && Date.now() - mine.asked > UNSEEN_MS) void refresh(mine);
  }, TICK_MS);
  void refresh(mine);
}

function hide() {
  document.removeEventListener("visibilitychange", look);
  if (!shown) return;
  shown.asking.abort();
  shown.stop?.();
  clearInterval(shown.ticking);
  clearTimeout(shown.again);
  cancelAnimationFrame(shown.drawing);
  shown = undefined;
}

function prepare() {
  charts = CHARTS.map((name) => new Chart(name));
  at("job-charts").append(...charts.map((chart) => chart.root));
  connection.addEventListener("back", look);
  log = new Log(at("job-log"), at("job-log-note"), at("job-log-end"));
  cancelling(
    () => shown?.job,
    (job) => {
      if (shown?.job?.name !== job.name) return;
      shown.job = job;
      draw(shown);
    },
  );
}

/** Asks for the record when the document is seen again: its connection may have been asleep. */
function look() {
  if (!document.hidden && shown?.job && !ended(shown.job)) void refresh(shown);
}

/**
 * Asks for the job's record, which tells what events do not.
 *
 * @param {Shown} mine
 */
async function refresh(mine) {
  mine.stale = true;
  if (mine.refreshing) return;
  mine.refreshing = true;
  mine.asked = Date.now();
  clearTimeout(mine.again);
  try {
    while (mine.stale) {
      mine.stale = false;
      const answer = await ask(`/api/jobs/${encodeURIComponent(mine.id)}`, { signal: mine.asking.signal });
      if (shown !== mine) return;
      mine.job = answer.job;
      mine.wait = TICK_MS;
    }
    say("job-problem", "");
    mine.stop ??= follow(mine.id, listener(mine));
    draw(mine);
  } catch (error) {
    if (shown !== mine || mine.asking.signal.aborted) return;
    const missing = error instanceof ApiError && error.status === 404;
    const words = sentence(messageOf(error));
    say("job-problem", missing ? `There is no job ${mine.id}. It may have been removed.` : words);
    if (error instanceof ApiError && error.passes) {
      mine.again = setTimeout(() => void refresh(mine), mine.wait);
      mine.wait = Math.min(2 * mine.wait, LONGEST_WAIT_MS);
    }
  } finally {
    mine.refreshing = false;
  }
}

/**
 * @param {Shown} mine
 * @returns {import("./following.js").Told}
 */
function listener(mine) {
  return {
    event: (event) => {
      const { job } = mine;
      if (event.log !== undefined) log?.add(event.log);
      if (event.state !== undefined) void refresh(mine);
      if (event.progress) {
        mine.curves.add(event.progress, event.metrics);
        // A stream begins with what earlier attempts did.
        if (job && !ended(job) && event.attempt >= job.attempt) {
          job.progress = event.progress;
          Object.assign(job.metrics, event.metrics);
        }
      }
      plan(mine);
    },
    end: () => {
      say("job-stream", "");
      void refresh(mine);
    },
    lost: (words) => say("job-stream", words),
    found: () => say("job-stream", ""),
    gone: (words) => {
      say("job-stream", words);
      void refresh(mine);
    },
  };
}

/**
 * Draws with the next frame, however many events come before it.
 *
 * @param {Shown} mine
 */
function plan(mine) {
  if (mine.drawing) return;
  mine.drawing = requestAnimationFrame(() => {
    mine.drawing = 0;
    if (shown !== mine || !mine.job) return;
    const teachers = specOf(mine.job)["teachers"] ?? [];
    const until = mine.curves.until;
    for (const chart of charts) chart.draw(mine.curves.of(chart.name), teachers, until);
    document.documentElement.dataset["points"] = String(mine.curves.points);
    log?.show();
    draw(mine);
  });
}

/**
 * Shows the record. It is not left to frames: they stop in the background, where the title counts.
 *
 * @param {Shown} mine
 */
function draw(mine) {
  const { job } = mine;
  if (shown !== mine || !job) return;
  const running = stateOf(job) === "running";
  const training = running && job.progress?.stage === "training";
  const percent = Math.floor(100 * shareOf(job.progress));
  const state = stateOf(job);
  title(`${training ? `${percent} %` : running ? (job.progress?.stage ?? state) : state} · ${titleOf(job)}`);
  at("job-body").hidden = false;
  showRecord(job);
  // Said aloud when something has changed, not with each step.
  const tens = training ? `, ${Math.floor(percent / 10) * 10} %` : "";
  const told = running ? `running: ${job.progress?.stage ?? "started"}${tens}` : state;
  if (told !== mine.told) say("job-status", `Job ${told}`);
  mine.told = told;
  if (ended(job) && mine.ticking) {
    clearInterval(mine.ticking);
    mine.ticking = undefined;
  }
  at("job-stage").textContent = running ? progressWords(job.progress) : "";
}

/**
 * @param {string} id
 * @param {string} words
 */
function say(id, words) {
  if (at(id).textContent !== words) at(id).textContent = words;
  if (id !== "job-status") at(id).hidden = !words;
}
