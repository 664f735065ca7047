// The whole page: segment an image, show jobs. No library, no build.
const at = (id) => document.getElementById(id);
const STATES = ["QUEUED", "RUNNING"];
const WATCHED_AT_ONCE = 3; // a browser opens few connections to one server
let chosen = null; // the file on stage
let mask = null; // its mask, a PNG blob
let newest = 0; // number of the newest request; older answers are dropped

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

function say(text, bad = false) {
  at("message").textContent = text;
  at("message").classList.toggle("bad", bad);
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The page's server does not answer.");
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Error(body?.error?.message ?? `The server answered ${response.status}.`);
  return body;
}

// Models

async function showModels() {
  const select = at("model");
  try {
    const { models } = await ask("/api/models");
    const options = models.flatMap((model) => {
      const name = model.reference.split("@")[0];
      return [...model.aliases.map((alias) => `${name}@${alias}`), model.reference];
    });
    select.replaceChildren(...options.map((each) => new Option(each)));
    const production = options.find((each) => each.endsWith("@production"));
    if (production) select.value = production;
    select.disabled = options.length === 0;
    if (!options.length) {
      select.replaceChildren(new Option("none yet"));
      say("No model can be served yet. Distil one, or push one with: histill models push");
    }
  } catch (error) {
    select.replaceChildren(new Option("not known"));
    say(error.message, true);
  }
}

// Segmenting

async function request(format) {
  const form = new FormData();
  form.append("model", at("model").value);
  form.append("format", format);
  form.append("image", chosen);
  const answer = await ask("/api/segment", { method: "POST", body: form });
  const bytes = Uint8Array.from(atob(answer.mask), (letter) => letter.charCodeAt(0));
  return { summary: answer.summary, blob: new Blob([bytes], { type: answer.media_type }) };
}

async function segment() {
  if (!chosen || at("model").disabled) return;
  const number = ++newest;
  say("Segmenting…");
  at("drop").classList.add("busy");
  try {
    const started = performance.now();
    const { summary, blob } = await request("png");
    if (number !== newest) return;
    mask = blob;
    await drawMask(blob);
    showResult(summary, performance.now() - started);
    say("");
  } catch (error) {
    if (number === newest) {
      say(error.message, true);
      at("result").hidden = true;
    }
  } finally {
    if (number === newest) at("drop").classList.remove("busy");
  }
}

async function take(file) {
  chosen = file;
  mask = null;
  at("result").hidden = true;
  at("drop").classList.add("full");
  at("stage").hidden = false;
  clear(at("base"));
  clear(at("overlay"));
  try {
    // As stored, like the mask: a camera's orientation tag is not applied.
    draw(at("base"), await createImageBitmap(file, { imageOrientation: "none" }));
  } catch {
    // TIFF and DICOM: browsers cannot show them; the mask alone will do.
  }
  await segment();
}

function clear(canvas) {
  canvas.width = canvas.height = 1;
}

function draw(canvas, bitmap) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

async function drawMask(blob) {
  const overlay = at("overlay");
  const bitmap = await createImageBitmap(blob);
  draw(overlay, bitmap);
  if (at("base").width === 1) {
    at("base").width = bitmap.width;
    at("base").height = bitmap.height;
  }
  const context = overlay.getContext("2d");
  const image = context.getImageData(0, 0, overlay.width, overlay.height);
  const pixels = image.data;
  // Black is the background's colour in the mask's palette, and no other class's.
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i] + pixels[i + 1] + pixels[i + 2] === 0) pixels[i + 3] = 0;
  }
  context.putImageData(image, 0, 0);
  fade();
}

function fade() {
  at("overlay").style.setProperty("opacity", at("opacity").value / 100);
}

function swatch([red, green, blue]) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("width", "12");
  made.setAttribute("height", "12");
  made.setAttribute("class", "swatch");
  const fill = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  fill.setAttribute("width", "12");
  fill.setAttribute("height", "12");
  fill.setAttribute("fill", `rgb(${red} ${green} ${blue})`);
  made.append(fill);
  return made;
}

function showResult(summary, total) {
  const { times } = summary;
  const all = summary.height * summary.width;
  at("milliseconds").textContent = Math.round(total);
  at("stages").textContent =
    `decode ${times.decode_ms.toFixed(1)} · wait ${times.queue_ms.toFixed(1)} · ` +
    `compute ${times.compute_ms.toFixed(1)} · write ${times.encode_ms.toFixed(1)}`;
  at("classes").replaceChildren(
    ...summary.classes.map((each) => {
      const row = element("tr");
      const name = element("td");
      name.append(swatch(each.color), each.class_name);
      const share = `${((100 * each.pixels) / all).toFixed(1)} %`;
      const area = each.area_mm2 ? `${share}, ${each.area_mm2.toPrecision(3)} mm²` : share;
      const sure = each.pixels ? `${(100 * each.mean_confidence).toFixed(0)} %` : "–";
      row.append(name, element("td", area), element("td", each.index ? each.objects : "–"), element("td", sure));
      return row;
    }),
  );
  at("answered").textContent = `${summary.width} × ${summary.height} pixels, answered by ${summary.model}`;
  at("result").hidden = false;
  showDice(summary.model);
}

async function showDice(reference) {
  const number = newest;
  // A courtesy: without a registry, or a measure, nothing is missing.
  const model = await ask(`/api/models/${encodeURIComponent(reference)}`).catch(() => null);
  const dice = model?.metrics?.dice;
  if (dice && number === newest) at("answered").append(`, Dice ${dice.toFixed(3)} in validation`);
}

function save(blob, suffix) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = chosen.name.replace(/\.[^.]*$/, "") + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Jobs

const watched = new Map(); // job name to its EventSource

function progressOf(job) {
  const cell = element("td");
  const { stage = "", step = 0, steps = 0 } = job.progress ?? {};
  if (job.state.endsWith("RUNNING")) {
    const bar = element("progress");
    if (steps) Object.assign(bar, { max: steps, value: step });
    cell.append(bar, element("div", steps ? `${stage} ${step} / ${steps}` : stage, "quiet"));
  } else if (job.error?.message) {
    cell.append(element("span", job.error.message, "quiet"));
  } else {
    cell.textContent = job.result_model.replace(/^models\/(.*)\/versions\//, "$1@");
  }
  return cell;
}

function measuresOf(metrics) {
  return Object.entries(metrics ?? {})
    .slice(0, 3)
    .map(([name, value]) => `${name} ${value.toPrecision(3)}`)
    .join(", ");
}

function rowOf(job) {
  const state = job.state.replace("JOB_STATE_", "");
  const row = element("tr");
  row.append(
    element("td", job.display_name || job.name),
    element("td", job.kind.replace("JOB_KIND_", "").replaceAll("_", " ").toLowerCase()),
    element("td", state.toLowerCase(), `state ${state.toLowerCase()}`),
    progressOf(job),
    element("td", measuresOf(job.metrics)),
    element("td", job.create_time ? new Date(job.create_time).toLocaleString() : ""),
  );
  return row;
}

function follow(job, row) {
  let shown = row;
  const source = new EventSource(`/api/${job.name}/events`);
  watched.set(job.name, source);
  const update = (event) => {
    const { state, progress, metrics } = JSON.parse(event.data);
    if (state) job.state = state;
    if (progress) job.progress = progress;
    Object.assign((job.metrics ??= {}), metrics);
    const fresh = rowOf(job);
    shown.replaceWith(fresh);
    shown = fresh;
  };
  source.addEventListener("state", update);
  source.addEventListener("progress", update);
  for (const end of ["end", "failure"]) {
    source.addEventListener(end, () => {
      source.close();
      watched.delete(job.name);
    });
  }
}

async function showJobs() {
  if (document.hidden) return;
  const body = at("jobs");
  try {
    const { jobs } = await ask("/api/jobs");
    for (const source of watched.values()) source.close();
    watched.clear();
    const rows = jobs.map(rowOf);
    body.replaceChildren(...rows);
    if (!jobs.length) note(body, "No jobs yet. Submit one with: histill jobs submit SPEC.yaml");
    jobs.forEach((job, index) => {
      const active = STATES.some((state) => job.state.endsWith(state));
      if (active && watched.size < WATCHED_AT_ONCE) follow(job, rows[index]);
    });
  } catch (error) {
    note(body, error.message);
  }
}

function note(body, text) {
  const cell = element("td", text, "quiet");
  cell.colSpan = 6;
  const row = element("tr");
  row.append(cell);
  body.replaceChildren(row);
}

// Wiring

at("file").addEventListener("change", (event) => {
  if (event.target.files.length) take(event.target.files[0]);
});
at("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
});
at("model").addEventListener("change", segment);
at("opacity").addEventListener("input", fade);
at("save-png").addEventListener("click", () => mask && save(mask, ".mask.png"));
at("save-geojson").addEventListener("click", async () => {
  try {
    save((await request("geojson")).blob, ".geojson");
  } catch (error) {
    say(error.message, true);
  }
});
at("another").addEventListener("click", () => {
  at("file").value = "";
  at("file").click();
});

showModels();
showJobs();
setInterval(showJobs, 15_000);
