// Puts the page together.

import { appearance } from "./appearance.js";
import { banner } from "./banner.js";
import { job } from "./jobs/job.js";
import { jobs } from "./jobs/list.js";
import { newJob } from "./jobs/new.js";
import { models } from "./models/models.js";
import { start } from "./router.js";
import { segment } from "./segment/segment.js";
import { begin, signIn } from "./session.js";

appearance();
banner();
await begin();
start([segment, jobs, newJob, job, models, signIn]);
