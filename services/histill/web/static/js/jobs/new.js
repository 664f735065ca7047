// The view "New job": a form, and beside it the YAML that is sent.

import { ApiError, ask, connection } from "../api.js";
import { at, save } from "../dom.js";
import { before, go } from "../router.js";
import { may } from "../session.js";
import { messageOf, sentence } from "../words.js";
import { loadChoices, prepareChoices, versionsOf } from "./choices.js";
import { adapt, fill, kindNow, read } from "./form.js";
import { clearProblems, showProblems } from "./problems.js";
import { written } from "./spec.js";
import { kindOf, idOf } from "./wording.js";
import { yamlOf } from "./yaml.js";

/** @type {AbortController | undefined} Of what is asked while the view is seen. */
let asking;
/** @type {import("./wording.js").Kind} */
let kind = "multi_teacher";
// Made anew whenever the job differs: a second click, or another try, makes no second job.
let requestId = "";
let yaml = "";
let sending = false;
let prepared = false;
/** The job that was taken over last, and in which entry of the history. */
let taken = { like: /** @type {string | null} */ (null), entry: "" };

/** @type {import("../router.js").View} */
export const newJob = { id: "new-job", title: "New job", path: /^\/jobs\/new$/, show, hide };

function show() {
  prepare();
  asking = new AbortController();
  requestId = freshId();
  clearProblems();
  say("");
  allow();
  const like = new URLSearchParams(location.search).get("like");
  // Whoever comes back, or has signed in anew in the middle, finds what was written.
  const again = history.state?.entry === taken.entry || before() === "/sign-in";
  void load(asking.signal, again && like === taken.like ? null : like);
}

function hide() {
  asking?.abort();
  asking = undefined;
}

/** Whether the caller may submit; that may become known later than the form is shown. */
function allow() {
  const allowed = may("operator");
  at("new-submit", HTMLButtonElement).disabled = !allowed;
  at("new-not-allowed").hidden = allowed;
}

function prepare() {
  if (prepared) return;
  prepared = true;
  connection.addEventListener("caller", allow);
  kind = kindNow();
  prepareChoices(changed);
  at("new-form").addEventListener("submit", (event) => {
    event.preventDefault();
    void submit();
  });
  at("new-form").addEventListener("input", changed);
  at("new-text").addEventListener("input", changed);
  at("new-train-first").addEventListener("click", () => {
    at("kind-supervised", HTMLInputElement).click();
    at("kind-supervised").focus();
  });
  at("new-as-text").addEventListener("change", switchForm);
  at("new-drop-yes").addEventListener("click", () => {
    at("new-drop", HTMLDialogElement).close();
    asText(false);
  });
  at("new-drop-no").addEventListener("click", () => at("new-drop", HTMLDialogElement).close());
  at("new-copy").addEventListener("click", () => void copy());
  at("new-download").addEventListener("click", download);
  adapt(kind, kind);
  changed();
}

/**
 * Offers what is present, and takes over another job where the address names one.
 *
 * @param {AbortSignal} signal
 * @param {string | null} like Id of that job.
 */
async function load(signal, like) {
  try {
    await loadChoices(signal);
    if (like) {
      const { job } = await ask(`/api/jobs/${encodeURIComponent(like)}`, { signal });
      take(job);
      taken = { like, entry: history.state?.entry };
    }
  } catch (error) {
    if (!signal.aborted) say(sentence(messageOf(error)));
  }
  if (!signal.aborted) changed();
}

/** @param {import("./wording.js").Job} job */
function take(job) {
  asText(false);
  const whole = fill(job);
  kind = kindNow();
  changed();
  if (whole) return;
  asText(true);
  at("new-text", HTMLTextAreaElement).value = yamlOf(written(job, kindOf(job)));
  say("This job says more than the form offers; here it is as text.");
}

/** Writes the YAML anew. */
function changed() {
  if (kindNow() !== kind) {
    adapt(kindNow(), kind);
    kind = kindNow();
  }
  const before = yaml;
  yaml = isText() ? at("new-text", HTMLTextAreaElement).value : yamlOf(read());
  if (yaml !== before) requestId = freshId();
  at("new-yaml").textContent = isText() ? "" : yaml;
  const versions = versionsOf(at("new-output", HTMLInputElement).value);
  at("new-output-hint").textContent = versions
    ? `There is such a model: this makes a further version of it.`
    : "a-z, 0-9 and -, up to 63 characters";
}

async function submit() {
  if (sending || !may("operator")) return;
  sending = true;
  const button = at("new-submit", HTMLButtonElement);
  button.setAttribute("aria-disabled", "true");
  const signal = asking?.signal;
  clearProblems();
  say("Submitting the job.");
  try {
    const { job } = await ask(`/api/jobs?${new URLSearchParams({ request_id: requestId })}`, {
      method: "POST",
      body: yaml,
      headers: { "Content-Type": "text/yaml" },
    });
    say("");
    if (!signal?.aborted) go(`/jobs/${idOf(job)}`);
  } catch (error) {
    say("");
    const told = error instanceof ApiError ? error : new ApiError(String(error));
    showProblems(told, isText() ? null : kind);
  }
  sending = false;
  button.removeAttribute("aria-disabled");
}

function isText() {
  return !at("new-text").hidden;
}

/** Between form and text; edits are not dropped without a question. */
function switchForm() {
  const wanted = at("new-as-text", HTMLInputElement).checked;
  if (!wanted && yaml !== yamlOf(read())) {
    at("new-as-text", HTMLInputElement).checked = true;
    at("new-drop", HTMLDialogElement).showModal();
  } else asText(wanted);
}

/** @param {boolean} text */
function asText(text) {
  const area = at("new-text", HTMLTextAreaElement);
  if (text && area.hidden) area.value = yaml;
  area.hidden = !text;
  at("new-yaml").hidden = text;
  at("new-as-text", HTMLInputElement).checked = text;
  at("new-fields", HTMLFieldSetElement).disabled = text;
  at("new-fields-off").hidden = !text;
  clearProblems();
  changed();
  if (text) area.focus();
}

async function copy() {
  try {
    await navigator.clipboard.writeText(yaml);
    say("Copied.");
  } catch {
    // Browsers allow it on HTTPS only.
    const text = isText() ? at("new-text") : at("new-yaml");
    if (text instanceof HTMLTextAreaElement) text.select();
    else getSelection()?.selectAllChildren(text);
    say("This browser does not let the page copy. The text is selected: press Ctrl+C.");
  }
}

function download() {
  save(new Blob([yaml], { type: "text/yaml" }), "job.yaml");
}

/** @param {string} words */
function say(words) {
  at("new-said").textContent = words;
}

/** Also where the page is not served over HTTPS, and browsers know no randomUUID. */
function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
