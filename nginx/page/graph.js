// The links as a picture: circles by rank, lines by rank. Units are CSS pixels.

import { svg, show } from "./dom.js";
import { layout } from "./layout.js";
import { count } from "./words.js";

const LABEL_HEIGHT = 18;
const LONGEST_LABEL = 22;
const TOUCH_RADIUS = 22; // 44 pixels across
const ROOM = 7200; // square pixels for one node with its label
const GLIDE_MS = 350;
const NARROWEST = 240; // a window that is only just made, or minimised, has no width

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const pen = document.createElement("canvas").getContext("2d");

/** How many nodes fit a picture of that width. */
export const capacity = (width) => Math.max(8, Math.min(26, Math.floor((width * tallest(width)) / ROOM)));
const tallest = (width) => Math.min(460, Math.max(300, width * 0.95));
const heightFor = (nodes, width) => Math.min(tallest(width), Math.max(220, (nodes * ROOM * 1.9) / width));
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function box(node, highest) {
  const r = 6 + 13 * Math.sqrt(node.rank / highest);
  const label = node.name.length > LONGEST_LABEL ? `${node.name.slice(0, LONGEST_LABEL - 1)}…` : node.name;
  pen.font = `13px ${getComputedStyle(document.body).fontFamily}`;
  const w = Math.max(2 * r, pen.measureText(label).width + 6, 2 * TOUCH_RADIUS);
  return { ...node, r, label, w, h: Math.max(2 * r, 30) + LABEL_HEIGHT };
}

/** The graph in `place`. explore(node) and open(link) are called for what is clicked. */
export class Graph {
  constructor(place, { explore, open }) {
    Object.assign(this, { place, explore, open, nodes: [] });
  }

  /** nodes, links: as the API's, the most important first. asked: ids of the question's concepts. explored: an id. */
  draw({ nodes, links, asked, explored }) {
    if (!nodes.length) return this.clear();
    const width = Math.max(NARROWEST, this.place.clientWidth);
    const height = heightFor(nodes.length, width);
    const before = new Map(this.nodes.map(({ id, x, y }) => [id, { x, y }]));
    const highest = Math.max(...nodes.map((node) => node.rank), 1);
    this.nodes = nodes.map((node) => ({ ...box(node, highest), ...before.get(node.id) }));
    const settled = this.size === `${width} x ${height}` && nodes.every((node) => before.has(node.id));
    if (!settled) layout(this.nodes, links, width, height);
    Object.assign(this, { size: `${width} x ${height}`, width });
    const at = new Map(this.nodes.map((node) => [node.id, node]));
    const strongest = Math.max(...links.map((link) => link.rank), 1);
    const drawn = links.filter(({ source, target }) => at.has(source) && at.has(target));
    this.lines = drawn.map((link) => this.#line(link, at, strongest));
    for (const node of this.nodes) node.shape = this.#shape(node, asked.has(node.id), node.id === explored);
    const first = this.nodes.find((node) => node.id === explored) ?? this.nodes[0];
    first.shape.setAttribute("tabindex", "0");
    const label = "Graph of concepts. Arrow keys move, Enter explores; the links are also in the list below.";
    show(this.place, svg("svg", {
      viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": label, onkeydown: (event) => this.#key(event),
    }, this.lines.map((line) => line.shape), this.nodes.map((node) => node.shape)));
    this.#glide(before);
  }

  /** Whether it was drawn for another width than there is now. */
  outgrown() {
    const width = this.place.clientWidth;
    return this.nodes.length > 0 && width >= NARROWEST && width !== this.width;
  }

  clear() {
    this.nodes = [];
    show(this.place);
  }

  /** Puts the focus on a node; false when it is not drawn. */
  focus(id) {
    const node = this.nodes.find((each) => each.id === id);
    if (node) this.#moveFocus(node);
    return Boolean(node);
  }

  #line(link, at, highest) {
    const thickness = 1 + 5 * Math.sqrt(link.rank / highest);
    const [a, b] = [at.get(link.source), at.get(link.target)];
    const title = svg("title", {}, `${a.name} – ${b.name}: ${count(link.rank, "sentence")}`);
    const strokes = [svg("line", { class: "stroke", "stroke-width": thickness }), svg("line", { class: "touch" })];
    const shape = svg("g", { class: "link", "data-link": `${link.source}:${link.target}`, onclick: () => this.open(link) }, title, strokes);
    return { a, b, strokes, shape };
  }

  #shape(node, asked, explored) {
    const kind = `node${asked ? " asked" : ""}${explored ? " explored" : ""}`;
    const label = `${node.name}, ${count(node.rank, "sentence")}${asked ? ", in the question" : ""}`;
    return svg("g", {
      class: kind, role: "button", tabindex: "-1", "aria-label": label, "data-id": node.id,
      ...(explored ? { "aria-current": "true" } : {}), onclick: () => this.explore(node),
    },
    svg("title", {}, node.name),
    svg("circle", { class: "touch", r: Math.max(node.r, TOUCH_RADIUS) }),
    svg("circle", { class: "halo", r: node.r + 5 }),
    svg("circle", { class: "dot", r: node.r }),
    svg("text", { y: Math.max(node.r, 15) + 13 }, node.label));
  }

  #place(node, x, y) {
    node.shape.setAttribute("transform", `translate(${x.toFixed(1)} ${(y - LABEL_HEIGHT / 2).toFixed(1)})`);
    node.now = { x, y: y - LABEL_HEIGHT / 2 };
  }

  /** Nodes that were there before move to their new place; at once where motion is not wanted. */
  #glide(before) {
    const begun = performance.now();
    const nodes = this.nodes;
    const step = (now) => {
      if (nodes !== this.nodes) return; // drawn anew
      const t = still() || !before.size ? 1 : Math.min(1, Math.max(0, (now - begun) / GLIDE_MS));
      const eased = 1 - (1 - t) ** 3;
      for (const node of nodes) {
        const from = before.get(node.id) ?? node;
        this.#place(node, from.x + (node.x - from.x) * eased, from.y + (node.y - from.y) * eased);
      }
      for (const { a, b, strokes } of this.lines) {
        for (const stroke of strokes) {
          for (const [name, value] of [["x1", a.now.x], ["y1", a.now.y], ["x2", b.now.x], ["y2", b.now.y]]) {
            stroke.setAttribute(name, value.toFixed(1));
          }
        }
      }
      if (t < 1) requestAnimationFrame(step);
    };
    step(begun);
  }

  #moveFocus(node) {
    for (const each of this.nodes) each.shape.setAttribute("tabindex", each === node ? "0" : "-1");
    node.shape.focus();
  }

  #key(event) {
    const here = this.nodes.find((node) => node.shape === event.target);
    if (!here || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.explore(here);
    }
    const direction = KEYS[event.key];
    if (!direction) return;
    event.preventDefault();
    const next = this.#nearest(here, direction);
    if (next) this.#moveFocus(next);
  }

  /** The node that lies most in that direction: what is off to the side counts as three times as far. */
  #nearest(here, [dx, dy]) {
    const far = ({ x, y }) => {
      const ahead = (x - here.x) * dx + (y - here.y) * dy;
      const aside = Math.abs((x - here.x) * dy) + Math.abs((y - here.y) * dx);
      return ahead > 1 ? ahead + 3 * aside : Infinity;
    };
    const others = this.nodes.filter((node) => far(node) < Infinity);
    return others.sort((a, b) => far(a) - far(b))[0];
  }
}
