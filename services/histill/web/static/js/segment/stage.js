// One picture with a mask over it, to be moved and zoomed.

import { MaskLayer, PictureLayer } from "./layers.js";
import { Tiles } from "./tiles.js";

/**
 * @typedef {import("./masks.js").Plane} Plane
 * @typedef {import("./paint.js").Look} Look
 * @typedef {import("./pictures.js").Picture} Picture
 * @typedef {import("./stream.js").Size} Size
 */

// Points of the mask a pixel has along each side when one looks closest: outlines stay thin.
const DETAIL = 8;
const CLOSEST = 16; // pixels of the screen, a pixel of the image
const MOST_TILES = 160; // of one megabyte each
const KEPT_KEYS = ["KeyR", "KeyF"]; // would turn and flip the picture, but not what is beside it
const MOVED = /** @type {const} */ ([
  "canvas-drag",
  "canvas-scroll",
  "canvas-key",
  "canvas-pinch",
  "canvas-double-click",
]);

/** A stage. */
export class Stage {
  #picture = new PictureLayer(() => this.#redraw());
  #mask = new MaskLayer(() => this.#redraw());
  /** @type {Tiles[]} Of the picture and of the mask. */
  #tiles = [];
  #opacity = 1;
  /** Whether the canvas shows less than it should. */
  #behind = false;
  /** @type {() => void} Told once, in the frame after the first of a mask was drawn. */
  #first = () => {};
  /** @type {Stage | null} The one that moves with it. */
  #partner = null;
  #leads = true;
  /** Whether all of the image is shown, until somebody moves it. */
  #whole = true;

  /**
   * @param {HTMLElement} element
   * @param {string} label What it shows, for those who do not see it.
   */
  constructor(element, label) {
    this.element = element;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.viewer = OpenSeadragon({
      element,
      drawer: "canvas",
      showNavigationControl: false,
      silenceMultiImageWarnings: true,
      animationTime: still ? 0 : 0.3,
      springStiffness: 8,
      maxTilesPerFrame: 16,
      maxImageCacheCount: MOST_TILES,
      // At exactly 1:1 the level of the image's own pixels is taken, not the next finer one.
      minPixelRatio: 0.51,
      maxZoomPixelRatio: CLOSEST / DETAIL,
      smoothTileEdgesMinZoom: Infinity,
      subPixelRoundingForTransparency: { "*": OpenSeadragon.SUBPIXEL_ROUNDING_OCCURRENCES.ONLY_AT_REST },
      visibilityRatio: 0.3,
      zoomPerClick: 1.6,
      zoomPerScroll: 1.3,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true, flickEnabled: false },
    });
    this.#listen();
    const { canvas } = this.viewer;
    canvas.setAttribute("role", "application");
    const keys = "Arrow keys move it, plus and minus zoom, 0 shows all of it.";
    canvas.setAttribute("aria-label", `${label}. ${keys}`);
  }

  #listen() {
    const { viewer } = this;
    viewer.addHandler("tile-drawing", ({ tiledImage, context, rendered }) => {
      if (!(tiledImage.source instanceof Tiles)) return;
      tiledImage.source.freshen(rendered);
      const closer = tiledImage.viewportToImageZoom(viewer.viewport.getZoom(true)) * tiledImage.source.detail;
      const smooth = tiledImage.source === this.#tiles[0] && closer * devicePixelRatio < 1 - 1e-6;
      context.imageSmoothingEnabled = smooth;
    });
    viewer.addHandler("update-viewport", () => {
      this.#behind = false;
      if (!this.#mask.painted || !viewer.world.getItemAt(1)?.lastDrawn.length) return;
      requestAnimationFrame(this.#first);
      this.#first = () => {};
    });
    viewer.addHandler("open", () => {
      if (!this.#leads && this.#partner) this.follow(this.#partner.viewer.viewport);
    });
    viewer.addHandler("canvas-key", (event) => {
      if (KEPT_KEYS.includes(event.originalEvent.code)) event.preventDefaultAction = true;
    });
    for (const name of MOVED) viewer.addHandler(name, () => this.#lead());
    // The whole image stays so when the stage gets another size; what follows the event would undo it.
    viewer.addHandler("resize", () => {
      if (this.#whole) queueMicrotask(() => viewer.viewport.goHome(true));
    });
    viewer.addHandler("viewport-change", () => {
      if (this.#leads) this.#partner?.follow(this.viewer.viewport);
    });
  }

  /**
   * Shows an image, without a mask yet, as a whole.
   *
   * @param {Size} size
   * @param {Picture} picture
   */
  open(size, picture) {
    this.#picture.picture = picture;
    this.#whole = true;
    this.show(null, null);
    this.#tiles = [new Tiles(size, 1, this.#picture), new Tiles(size, DETAIL, this.#mask)];
    const [below, above] = /** @type {[Tiles, Tiles]} */ (this.#tiles);
    this.viewer.open([{ tileSource: below }, { tileSource: above, opacity: this.#opacity, preload: true }]);
    this.#redraw();
  }

  /** Shows nothing. */
  close() {
    this.viewer.close();
    this.#picture.picture = null;
    this.show(null, null);
  }

  /**
   * Shows a mask, as far as it has come.
   *
   * @param {Plane | null} classes
   * @param {Plane | null} confidences
   * @param {() => void} [first] Called in the frame after something of it was drawn.
   */
  show(classes, confidences, first = () => {}) {
    this.#mask.painted = false;
    this.#mask.classes = classes;
    this.#mask.confidences = confidences;
    this.#first = first;
    this.#redraw();
  }

  /** More of the picture or of the mask has come. */
  more() {
    this.#redraw();
  }

  /** @param {Plane | null} confidences */
  shade(confidences) {
    this.#mask.confidences = confidences;
    this.#redraw();
  }

  /** @param {Look} look */
  look(look) {
    this.#mask.look = { ...look, outline: look.outline && Math.min(4, Math.round(2 * devicePixelRatio)) };
    this.#redraw();
  }

  /** @param {number} share In [0, 1]. */
  opacity(share) {
    this.#opacity = share;
    this.viewer.world.getItemAt(1)?.setOpacity(share);
    this.#redraw();
  }

  #redraw() {
    this.#behind = true;
    if (this.viewer.isOpen()) this.viewer.forceRedraw();
  }

  /** One pixel of the image a pixel of the screen, and the one exactly on the other. */
  actualSize() {
    const { viewport, world } = this.viewer;
    const image = world.getItemAt(0);
    if (!image) return;
    this.#lead();
    const { x: width } = image.getContentSize();
    const container = viewport.getContainerSize();
    const middle = viewport.getCenter();
    // The window's corner lies on a corner of pixels: its middle is half a window from there.
    const snapped = (/** @type {number} */ at, /** @type {number} */ side) => {
      const half = (side * devicePixelRatio) / 2;
      return (Math.round(at * width - half) + half) / width;
    };
    viewport.zoomTo(image.imageToViewportZoom(1 / devicePixelRatio), undefined, true);
    const to = new OpenSeadragon.Point(snapped(middle.x, container.x), snapped(middle.y, container.y));
    viewport.panTo(to, true);
    world.update(true); // Now, not with the next frame, its tiles are missing.
    this.#redraw();
  }

  /** All of the image. */
  fit() {
    this.#lead();
    this.#whole = true;
    this.viewer.viewport.goHome();
  }

  /** @param {number} factor */
  zoomBy(factor) {
    this.#lead();
    this.viewer.viewport.zoomBy(factor).applyConstraints();
  }

  /**
   * Moves and zooms together with another from now on.
   *
   * @param {Stage | null} partner
   */
  pair(partner) {
    this.#partner = partner;
    this.#leads = true;
    if (!partner) return;
    partner.#partner = this;
    partner.follow(this.viewer.viewport);
  }

  #lead() {
    this.#leads = true;
    this.#whole = false;
    if (this.#partner) this.#partner.#leads = false;
  }

  /** @param {OpenSeadragon.Viewport} other */
  follow(other) {
    this.#leads = this.#whole = false;
    const { viewport } = this.viewer;
    if (!viewport || !this.viewer.isOpen()) return;
    viewport.zoomTo(other.getZoom(true), undefined, true).panTo(other.getCenter(true), true);
  }

  /**
   * Waits until all that is to be seen is drawn; not while nobody can see it.
   *
   * @param {AbortSignal} signal
   */
  async settled(signal) {
    const seen = () => !document.hidden && this.element.getClientRects().length > 0;
    while (!signal.aborted && seen() && !this.#drawn()) await frame();
  }

  #drawn() {
    const { viewer } = this;
    if (!viewer.isOpen()) return true;
    if (this.#behind || this.#picture.waiting || this.#mask.waiting) return false;
    return viewer.world.getItemCount() === 2 && viewer.getFullyLoaded();
  }
}

/** The next frame. */
export function frame() {
  return new Promise((done) => requestAnimationFrame(done));
}
