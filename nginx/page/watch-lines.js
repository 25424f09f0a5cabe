// Series over time: lines, or areas on top of each other. uPlot (lib/) draws; the legend and the keys are ours.

import { el, show } from "./dom.js";
import { hueVariable, lineVariable } from "./watch-look.js";
import { endOf, latest, telling } from "./watch-points.js";
import { format, increments, ticks, timeOfDay, timeTicks } from "./watch-units.js";
import { count } from "./words.js";

const AXIS_FONT_PX = 12;
const PLOT_INSET_PX = { top: 8, right: 18 };
const MANY = 5; // series, from which on the legend stands in columns
const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880].map((minutes) => minutes * 60);
const SYNC = "watch"; // the line under the pointer stands in all graphs of the page
const NEAR_THRESHOLD = 1.5; // a threshold this many times over the highest value is out of sight

const style = getComputedStyle(document.documentElement);
const resolved = (variable) => style.getPropertyValue(variable).trim();
const font = () => `${AXIS_FONT_PX}px ${resolved("--sans")}`;

function faded(colourText, alpha) {
  return `color-mix(in srgb, ${colourText} ${Math.round(alpha * 100)}%, transparent)`;
}

/** Sums from the first series up, so that each lies on those before it; where only some have a gap, it counts as 0. */
function piled(columns) {
  const below = columns[0].map((_, i) => (columns.some((column) => column[i] !== null) ? 0 : null));
  return columns.map((column) => column.map((value, i) => (below[i] === null ? null : (below[i] += value ?? 0))));
}

export class Lines {
  /** place: an element to fill. look: the panel's Look. say(text) announces. */
  constructor(place, look, { title, say }) {
    Object.assign(this, { place, look, title, say, data: null, drawn: null, names: "", nows: [], at: undefined, colours: new Map() });
    this.stacked = look.custom.stacking?.mode === "normal";
    this.canvas = el("div", { class: "canvas" });
    this.plot = el("div", {
      class: "plot", tabindex: "0", role: "slider", "aria-label": `${title}: point in time`, "aria-orientation": "horizontal",
      onkeydown: (event) => this.#key(event), onblur: () => this.#point(null),
    }, this.canvas);
    this.time = el("p", { class: "time", "aria-hidden": "true" });
    this.legend = el("div");
    show(place, this.plot, this.legend, this.time);
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(this.plot);
  }

  /** Shows the data; the picture is made anew only when there are other series. */
  draw(data) {
    this.data = data;
    const tells = telling(data);
    const names = JSON.stringify(data.series.map(({ ref, legend }, i) => [ref, legend, tells[i]]));
    if (!this.drawn || names !== this.names) this.#build(names);
    else this.#refill();
    this.#write(this.drawn.cursor.idx ?? null);
  }

  /** After a change of colours. */
  repaint() {
    if (!this.data) return;
    this.#build(this.names);
    this.#write(null);
  }

  remove() {
    this.sizes.disconnect();
    this.drawn?.destroy();
    this.drawn = null;
  }

  #columns() {
    const columns = this.data.series.map(({ points }) => points.map(([, value]) => value));
    return [this.data.series[0].points.map(([timeS]) => timeS), ...(this.stacked ? piled(columns) : columns)];
  }

  #variable(series) {
    const key = `${series.ref} ${series.legend}`;
    if (!this.colours.has(key)) this.colours.set(key, lineVariable(this.colours.size));
    return this.colours.get(key); // a series keeps its colour when others come and go
  }

  #build(names) {
    Object.assign(this, { names, nows: [] });
    this.drawn?.destroy();
    const { clientWidth: width, clientHeight: height } = this.plot;
    const tells = telling(this.data);
    const shown = tells.map((each) => each || !tells.includes(true)); // lines at 0 only where there are no others
    const lines = shown.flatMap((each, i) => (each ? [i + 1] : [])); // uPlot's series 0 is the time
    this.drawn = new globalThis.uPlot({
      width: width || 300, height: height || 150, ...this.#axes(),
      series: [{}, ...this.data.series.map((series, i) => (shown[i] ? this.#series(series) : { show: false }))],
      bands: this.stacked ? lines.slice(1).map((line, i) => ({ series: [line, lines[i]] })) : [],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: SYNC }, points: { size: 7 } },
      padding: [PLOT_INSET_PX.top, PLOT_INSET_PX.right, 0, 0],
      hooks: { setCursor: [(drawn) => this.#write(drawn.cursor.idx ?? null)], drawClear: [(drawn) => this.#thresholds(drawn)] },
    }, this.#columns(), this.canvas);
    this.#refill();
    this.#buildLegend(tells, shown);
  }

  /** The series that say something, and folded away those that do not. */
  #buildLegend(tells, shown) {
    const entries = this.data.series.map((series, i) => this.#entry(series, shown[i]));
    const folded = tells.includes(true) || entries.length >= MANY ? tells.map((each) => !each) : tells.map(() => false);
    const quiet = entries.filter((_, i) => folded[i]);
    const open = this.legend.querySelector("details")?.open ?? false;
    const loud = entries.filter((_, i) => !folded[i]);
    show(this.legend,
      loud.length && el("ul", { class: loud.length >= MANY ? "legend many" : "legend" }, loud),
      quiet.length && el("details", { open },
        el("summary", {}, `${loud.length ? `${quiet.length} more` : count(quiet.length, "line")}: 0 or nothing all the time`),
        el("ul", { class: "legend many" }, quiet)));
    this.nows = entries.map((entry) => entry.lastChild);
  }

  #entry(series, shown) {
    const mark = shown && el("span", { class: "swatch" });
    if (mark) mark.style.background = `var(${this.#variable(series)})`;
    return el("li", {}, mark, el("span", { class: "series" }, series.legend || "value"), el("span", { class: "now" }));
  }

  #series(series) {
    const stroke = resolved(this.#variable(series));
    const { drawStyle, lineInterpolation, lineWidth = 1, fillOpacity = 0 } = this.look.custom;
    const { paths } = globalThis.uPlot;
    return {
      label: series.legend, stroke, width: Math.max(1.5, lineWidth), points: { show: false, filter: (_, at) => this.#lonely(at) },
      fill: fillOpacity ? faded(stroke, fillOpacity / 100) : null,
      paths: drawStyle === "bars" ? paths.bars() : lineInterpolation === "stepAfter" ? paths.stepped({ align: 1 }) : undefined,
    };
  }

  /** Where values have gaps on both sides: they have no line, and are shown as points. */
  #lonely(at) {
    const has = this.data.series[at - 1].points.map(([, value]) => value !== null);
    return has.flatMap((each, i) => (each && !has[i - 1] && !has[i + 1] ? [i] : []));
  }

  #axes() {
    const { unit, custom } = this.look;
    const line = { stroke: resolved("--soft"), font: font(), grid: { stroke: resolved("--line"), width: 1 }, ticks: { show: false } };
    const least = custom.axisSoftMin ?? null;
    return {
      scales: {
        x: { time: true, range: (_, from, to) => [from, to] },
        y: { range: (_, from, to) => this.#span(least === null ? from : Math.min(least, from ?? least), to) },
      },
      axes: [
        { ...line, size: 26, gap: 4, space: 54, incrs: TIME_STEPS_S, values: (_, splits) => timeTicks(splits) },
        {
          ...line, gap: 6, space: 34, incrs: increments(unit) ?? undefined,
          values: (_, splits) => ticks(splits, unit),
          size: (drawn, labels) => this.#width(drawn, labels),
        },
      ],
    };
  }

  /** [lowest, highest] of the axis: some room above, and never nothing. */
  #span(from, to) {
    if (from === null || to === null || from === undefined || to === undefined) return [0, 1];
    const { min, max } = this.look;
    const low = min ?? from;
    const high = max === null ? to + (to - low) * 0.08 : Math.max(max, to);
    if (high > low) return [low, high];
    return low === 0 ? [0, 1] : [low - Math.abs(low) * 0.1, low + Math.abs(low) * 0.1];
  }

  #width(drawn, labels) {
    if (!labels?.length) return 40;
    drawn.ctx.font = `${AXIS_FONT_PX * devicePixelRatio}px ${resolved("--sans")}`;
    return Math.ceil(Math.max(...labels.map((label) => drawn.ctx.measureText(label).width)) / devicePixelRatio) + 12;
  }

  #thresholds(drawn) {
    if (!/line/.test(this.look.custom.thresholdsStyle?.mode ?? "")) return;
    const { left, top, width, height } = drawn.bbox;
    drawn.ctx.save();
    for (const { from, hue } of this.look.steps) {
      const y = drawn.valToPos(from, "y", true);
      if (!Number.isFinite(from) || y < top || y > top + height * NEAR_THRESHOLD) continue;
      drawn.ctx.strokeStyle = resolved(hueVariable(hue));
      drawn.ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
      drawn.ctx.beginPath();
      drawn.ctx.moveTo(left, y);
      drawn.ctx.lineTo(left + width, y);
      drawn.ctx.stroke();
    }
    drawn.ctx.restore();
  }

  /** The whole range is shown, also where nothing was measured. */
  #refill() {
    const end = endOf(this.data);
    this.drawn.setData(this.#columns(), false);
    this.drawn.setScale("x", { min: end - this.data.range_s, max: end });
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (this.drawn && width && height) this.drawn.setSize({ width, height });
  }

  /** The legend's values: of the point in time `at`, or the latest. */
  #write(at) {
    if (this.nows.length !== this.data?.series.length) return; // it is being built
    const shown = this.data.series.map((series) => format(at === null ? latest(series) : series.points[at]?.[1], this.look.unit, this.look.decimals));
    this.nows.forEach((now, i) => {
      if (now.textContent !== shown[i]) now.textContent = shown[i];
    });
    const timeS = at === null ? null : this.data.series[0].points[at]?.[0];
    this.time.textContent = timeS ? timeOfDay(timeS) : "";
    const same = at === null && this.at === null;
    this.at = at;
    if (same && document.activeElement === this.plot) return; // a new value every few seconds would be read aloud
    const { length } = this.data.series[0].points;
    const tells = telling(this.data);
    const said = this.data.series.map(({ legend }, i) => tells[i] && `${legend || "value"} ${shown[i]}`).filter(Boolean).join(", ") || "0 or nothing";
    for (const [name, value] of Object.entries({ min: 0, max: length - 1, now: at ?? length - 1, text: `${timeS ? timeOfDay(timeS) : "now"}: ${said}` })) {
      this.plot.setAttribute(`aria-value${name}`, value);
    }
  }

  #key(event) {
    if (!this.drawn || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.data.series[0].points.length - 1;
    const at = this.drawn.cursor.idx ?? null;
    const page = Math.max(1, Math.round(last / 10));
    const to = {
      ArrowLeft: () => Math.max(0, (at ?? last + 1) - 1), ArrowRight: () => Math.min(last, (at ?? last - 1) + 1),
      PageUp: () => Math.max(0, (at ?? last) - page), PageDown: () => Math.min(last, (at ?? last) + page),
      Home: () => 0, End: () => last, Escape: () => null,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    this.#point(to());
  }

  /** Puts the line at a point in time; null takes it away. */
  #point(at) {
    if (!this.drawn) return;
    const left = at === null ? -10 : this.drawn.valToPos(this.drawn.data[0][at], "x");
    this.drawn.setCursor({ left, top: at === null ? -10 : 1 });
  }
}
