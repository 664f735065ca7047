// Draws the curves of a job, with a legend that keys can use and a table of the same.

import { element } from "../dom.js";
import { labelOf } from "./curves.js";
import { measure } from "./wording.js";

/** @typedef {import("./curves.js").Curve} Curve */
/** @typedef {InstanceType<typeof uPlot>} Plot */
/** @typedef {Parameters<Plot["setData"]>[0]} Data */
/** @typedef {NonNullable<ConstructorParameters<typeof uPlot>[0]["scales"]>[string]["range"]} Range */

// In the page's own unit, which grows with the screen.
const HEIGHT_REM = 15;
const FONT_REM = 0.75;
// Each line has a colour and, beyond the fourth, dashes: colour alone does not tell them apart.
const COLORS = 8;
const DASHES = [[], [], [], [], [8, 4], [2, 3], [8, 3, 2, 3], [12, 4]];
const MAIN = new Set(["loss", "val_dice"]);
// A line of fewer values shows each of them.
const FEW = 60;
/** @type {Record<string, string>} */
const TITLES = {
  loss: "Loss",
  dice: "Dice and the like",
  weights: "Weight of each teacher",
  other: "Further measures",
};

/** One chart. */
export class Chart {
  /** @type {Plot | undefined} */
  #plot;
  /** @type {[string, Curve][]} */
  #curves = [];
  /** @type {string[]} */
  #teachers = [];
  #until = 1;
  #rem = 16;
  /** @type {Set<string>} */
  #off = new Set();
  #plotted = element("div", { class: "jobs-plot", role: "img" });
  #legend = element("ul", { class: "jobs-legend", "aria-label": "Lines" });
  #rows = element("tbody");

  /** @param {import("./curves.js").ChartName} name */
  constructor(name) {
    this.name = name;
    const table = element(
      "table",
      {},
      element("caption", { class: "hidden" }, TITLES[name] ?? name),
      element("thead", {}, row("th", "measure", "last", "least", "largest", "at step")),
      this.#rows,
    );
    this.root = element(
      "section",
      { class: "card chart", "data-chart": name, "aria-label": TITLES[name] ?? name, hidden: true },
      element("h2", {}, TITLES[name] ?? name),
      this.#plotted,
      this.#legend,
      element("details", {}, element("summary", {}, "As a table"), table),
    );
    new ResizeObserver(() => this.#fit()).observe(this.#plotted);
    const themed = new MutationObserver(() => this.#plot?.redraw());
    themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  /**
   * @param {[string, Curve][]} curves
   * @param {string[]} teachers
   * @param {number} until The last step that any chart shows: all have the same axis.
   */
  draw(curves, teachers, until) {
    this.#until = until;
    const names = curves.map(([name]) => name).join();
    const same = names === this.#curves.map(([name]) => name).join();
    this.#curves = curves;
    this.#teachers = teachers;
    this.root.hidden = !curves.length;
    if (!curves.length) return this.clear();
    if (!same || !this.#plot) this.#build();
    this.#plot?.setData(this.#data());
    this.#tell();
  }

  /** Forgets what was drawn. */
  clear() {
    this.#plot?.destroy();
    this.#plot = undefined;
    this.#curves = [];
    this.#off.clear();
    this.#legend.replaceChildren();
    this.#rows.replaceChildren();
    this.root.hidden = true;
  }

  #build() {
    this.#plot?.destroy();
    this.#plot = undefined;
    this.#list();
    if (typeof uPlot === "undefined") return; // the table tells the same
    this.#rem = rem();
    const font = `${FONT_REM * this.#rem}px system-ui, sans-serif`;
    const lines = { stroke: () => ink("--line"), width: 1 };
    const axis = { stroke: () => ink("--quiet"), font, grid: lines, ticks: lines };
    this.#plot = new uPlot(
      {
        width: this.#plotted.clientWidth || 320,
        height: HEIGHT_REM * this.#rem,
        legend: { show: false },
        cursor: { y: false, sync: { key: "job", scales: ["x", null] }, drag: { setScale: false } },
        scales: { x: { time: false, range: () => [0, this.#until] }, y: { range: range(this.name) } },
        axes: [
          { ...axis, label: "step", labelSize: 1.2 * this.#rem, labelFont: font, size: 2.1 * this.#rem },
          { ...axis, size: 3.3 * this.#rem },
        ],
        series: [
          { label: "step" },
          ...this.#curves.map(([name, curve], index) => this.#series(name, curve, index)),
        ],
        hooks: { setLegend: [(plot) => this.#show(plot.legend.idx ?? null)] },
      },
      this.#data(),
      this.#plotted,
    );
  }

  /**
   * @param {string} name
   * @param {Curve} curve
   * @param {number} index
   */
  #series(name, curve, index) {
    return {
      label: labelOf(name, this.#teachers),
      stroke: () => ink(`--series-${index % COLORS}`),
      width: MAIN.has(name) ? 2.5 : 1.5,
      dash: DASHES[index % DASHES.length] ?? [],
      show: !this.#off.has(name),
      spanGaps: true,
      points: { show: () => curve.steps.length < FEW, size: 5 },
    };
  }

  /** @returns {Data} */
  #data() {
    /** @type {Data[]} */
    const tables = this.#curves.map(([, curve]) => [curve.steps, curve.values]);
    if (tables.length === 1 && tables[0]) return [...tables[0]];
    return uPlot.join(tables);
  }

  /** The buttons that show and hide lines. */
  #list() {
    this.#legend.replaceChildren(
      ...this.#curves.map(([name], index) => {
        const mark = element("span", { class: "jobs-mark" });
        mark.style.setProperty("--mark", `var(--series-${index % COLORS})`);
        mark.classList.toggle("jobs-dashed", (DASHES[index % DASHES.length] ?? []).length > 0);
        const button = element(
          "button",
          { type: "button", class: "plain small", "aria-pressed": String(!this.#off.has(name)) },
          mark,
          element("span", {}, labelOf(name, this.#teachers)),
          element("span", { class: "jobs-value" }),
        );
        button.addEventListener("click", () => this.#toggle(name, index, button));
        return element("li", {}, button);
      }),
    );
  }

  /**
   * @param {string} name
   * @param {number} index
   * @param {HTMLButtonElement} button
   */
  #toggle(name, index, button) {
    const shown = this.#off.delete(name);
    if (!shown) this.#off.add(name);
    button.setAttribute("aria-pressed", String(shown));
    this.#plot?.setSeries(index + 1, { show: shown });
  }

  /**
   * Values under the cursor, else the last ones.
   *
   * @param {number | null} at
   */
  #show(at) {
    const places = this.#legend.querySelectorAll(".jobs-value");
    for (const [index, [, curve]] of this.#curves.entries()) {
      const under = at === null ? curve.values.at(-1) : this.#plot?.data[index + 1]?.[at];
      const place = places[index];
      if (place) place.textContent = measure(under ?? undefined);
    }
  }

  #tell() {
    if (!this.#plot?.cursor.left || this.#plot.cursor.left < 0) this.#show(null);
    const rows = this.#curves.map(([name, curve]) => {
      const { last, least, most } = curve.summary();
      const label = labelOf(name, this.#teachers);
      return { label, cells: [last, least, most, String(curve.steps.at(-1) ?? "")] };
    });
    this.#rows.replaceChildren(
      ...rows.map(({ label, cells }) => {
        return element("tr", {}, element("th", { scope: "row" }, label), ...row("td", ...cells).children);
      }),
    );
    const words = rows.map(({ label, cells }) => `${label} ${cells[0]}`).join(", ");
    this.#plotted.setAttribute("aria-label", `${TITLES[this.name]} over the steps. Last values: ${words}.`);
  }

  #fit() {
    const width = this.#plotted.clientWidth;
    if (!this.#plot || !width) return;
    if (this.#rem !== rem()) this.#build();
    else if (width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT_REM * this.#rem });
  }
}

/**
 * @param {"th" | "td"} tag
 * @param {...string} texts
 */
function row(tag, ...texts) {
  /** @type {Record<string, string>} */
  const attributes = tag === "th" ? { scope: "col" } : {};
  return element("tr", {}, ...texts.map((text) => element(tag, attributes, text)));
}

/** Pixels of the page's unit. */
function rem() {
  return parseFloat(getComputedStyle(document.documentElement).fontSize);
}

/**
 * @param {string} name Of a colour of the stylesheet, which differs between light and dark.
 */
function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "currentColor";
}

/**
 * @param {string} chart
 * @returns {Range}
 */
function range(chart) {
  if (chart === "weights") return [0, 1];
  const low = { pad: 0.1, soft: 0, mode: /** @type {const} */ (3) };
  if (chart !== "dice") return { min: low, max: { pad: 0.1 } };
  return { min: { ...low, hard: 0 }, max: { ...low, soft: 1, hard: 1 } };
}
