// Libraries that are plain scripts and not modules, as the page's modules see them.
import type Plot from "uplot";

declare global {
  const uPlot: typeof Plot;
}
