// Cancels a job, after a question.

import { ask } from "../api.js";
import { at } from "../dom.js";
import { may } from "../session.js";
import { messageOf } from "../words.js";
import { idOf, titleOf } from "./wording.js";

/** @typedef {import("./wording.js").Job} Job */

/**
 * Makes the button and its dialog work.
 *
 * @param {() => Job | undefined} present The job that is shown.
 * @param {(job: Job) => void} cancelled Told the job as it is after the call.
 */
export function cancelling(present, cancelled) {
  const dialog = at("job-cancel-dialog", HTMLDialogElement);
  const problem = at("job-cancel-problem");
  const yes = at("job-cancel-yes", HTMLButtonElement);
  at("job-cancel").addEventListener("click", () => {
    const job = present();
    if (!job) return;
    at("job-cancel-name").textContent = titleOf(job);
    const allowed = may("operator");
    yes.disabled = !allowed;
    problem.textContent = allowed ? "" : "Cancelling needs the role operator, which your key does not have.";
    dialog.showModal();
  });
  at("job-cancel-no").addEventListener("click", () => dialog.close());
  yes.addEventListener("click", async () => {
    const job = present();
    if (!job) return dialog.close();
    yes.disabled = true;
    problem.textContent = "";
    try {
      const answer = await ask(`/api/jobs/${idOf(job)}/cancel`, { method: "POST" });
      const asked = dialog.open;
      dialog.close();
      cancelled(answer.job);
      // The button that had the focus is of no use any more.
      if (asked) at("job-title").focus();
    } catch (error) {
      problem.textContent = messageOf(error);
    }
    yes.disabled = false;
  });
}
