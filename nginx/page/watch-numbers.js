// One number in large type with its course (stat), or on an arc (gauge).

import { el, show, svg } from "./dom.js";
import { colour } from "./watch-look.js";
import { reduced } from "./watch-points.js";
import { format } from "./watch-units.js";

const COURSE = { width: 100, height: 24 }; // of the sparkline's own coordinates; it is stretched
const ARC = { x: 60, y: 58, radius: 46, from: -210, to: 30 }; // degrees; 0 points right, clockwise

/** A large number: the unit is smaller than what it counts; a word of the panel's mappings takes its place. */
function large(value, look) {
  const word = look.wordFor(value);
  const text = word?.text ?? format(value, look.unit, look.decimals);
  const cut = word ? text.length : text.search(/[^-\d.,]/) >>> 0;
  const number = el("p", { class: "large" }, text.slice(0, cut), el("span", { class: "unit" }, text.slice(cut)));
  number.style.color = colour(look.hueOf(value));
  return number;
}

/** The course of a series as an area; gaps stay gaps. */
function course(series, hue) {
  const known = series.points.map(([, value]) => value).filter((value) => value !== null);
  if (known.length < 2) return null;
  const low = Math.min(0, ...known);
  const high = Math.max(...known);
  const x = (i) => ((i / (series.points.length - 1)) * COURSE.width).toFixed(2);
  const y = (value) => (COURSE.height - 1 - ((value - low) / (high - low || 1)) * (COURSE.height - 3)).toFixed(2);
  const runs = [];
  series.points.forEach(([, value], i) => {
    if (value === null) return;
    if (i === 0 || series.points[i - 1][1] === null) runs.push([]);
    runs.at(-1).push([x(i), y(value)]);
  });
  const line = runs.map((run) => `M${run.map((at) => at.join(",")).join("L")}`).join("");
  const area = runs.map((run) => `M${run[0][0]},${COURSE.height}L${run.map((at) => at.join(",")).join("L")}L${run.at(-1)[0]},${COURSE.height}Z`).join("");
  const picture = svg("svg", { class: "course", viewBox: `0 0 ${COURSE.width} ${COURSE.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "area", d: area }), svg("path", { class: "line", d: line, "vector-effect": "non-scaling-stroke" }));
  picture.style.color = colour(hue);
  return picture;
}

export class Stat {
  constructor(place, look, { options }) {
    Object.assign(this, { place, look, calcs: options.reduceOptions?.calcs, withCourse: options.graphMode !== "none" });
  }

  draw(data) {
    const shown = data.series.map((series) => ({ series, value: reduced(series, this.calcs) })).filter(({ value }) => value !== null);
    show(this.place, shown.map(({ series, value }) => el("div", { class: "figure" },
      shown.length > 1 ? el("p", { class: "series" }, series.legend) : null,
      large(value, this.look),
      this.withCourse ? course(series, this.look.hueOf(value)) : null,
    )));
  }
}

const point = (degrees, radius) => {
  const angle = (degrees * Math.PI) / 180;
  return `${(ARC.x + radius * Math.cos(angle)).toFixed(2)},${(ARC.y + radius * Math.sin(angle)).toFixed(2)}`;
};

/** A piece of the arc from share to share (0 to 1). */
function piece(from, to, radius, name, hue) {
  const [a, b] = [from, to].map((share) => ARC.from + Math.min(1, Math.max(0, share)) * (ARC.to - ARC.from));
  if (b - a < 0.5) return null;
  const path = svg("path", { class: name, d: `M${point(a, radius)}A${radius},${radius} 0 ${b - a > 180 ? 1 : 0} 1 ${point(b, radius)}` });
  if (hue) path.style.stroke = colour(hue);
  return path;
}

export class Gauge {
  constructor(place, look, { options }) {
    Object.assign(this, { place, look, calcs: options.reduceOptions?.calcs });
  }

  draw(data) {
    const shown = data.series.map((series) => ({ series, value: reduced(series, this.calcs) })).filter(({ value }) => value !== null);
    show(this.place, shown.map(({ series, value }) => el("div", { class: "figure" },
      shown.length > 1 ? el("p", { class: "series" }, series.legend) : null,
      this.#dial(value),
    )));
  }

  #dial(value) {
    const { look } = this;
    const [min, max] = [look.min ?? 0, look.max ?? 100];
    const share = (at) => (at - min) / (max - min);
    const bounds = [...look.steps.map(({ from }) => Math.max(0, share(from))), 1];
    return el("div", { class: "dial" },
      svg("svg", { viewBox: "4 4 112 84", "aria-hidden": "true" },
        piece(0, 1, ARC.radius, "track"),
        piece(0, share(value), ARC.radius, "value", look.hueOf(value)),
        look.steps.map(({ hue }, i) => piece(bounds[i], bounds[i + 1], ARC.radius + 7.5, "step", hue)),
      ),
      large(value, look),
    );
  }
}
