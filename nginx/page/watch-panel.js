// One panel: its frame, its title and what it shows, and one of four states: waiting, data, empty, error.

import { el, show } from "./dom.js";
import { Lines } from "./watch-lines.js";
import { Look } from "./watch-look.js";
import { Gauge, Stat } from "./watch-numbers.js";
import { hasValues, latest, reduced, telling } from "./watch-points.js";
import { Bars, Table } from "./watch-rows.js";
import { format, rangeInWords } from "./watch-units.js";

const KINDS = { timeseries: Lines, stat: Stat, gauge: Gauge, bargauge: Bars, table: Table };
const MOST_IN_WORDS = 20; // series in the text for who cannot see the picture
const SMALL_COLUMNS = 6; // of 24: two of these share a phone's width

export class Panel {
  /** raw: a panel of Grafana's JSON. say(text) announces. */
  constructor(raw, say) {
    Object.assign(this, { raw, say, id: raw.id, title: raw.title, look: new Look(raw), view: null });
    this.body = el("div", { class: "body" });
    this.summary = el("p", { class: "unseen" });
    const name = `panel-${raw.id}`;
    this.element = el("section", {
      class: `panel ${raw.type}`, "data-id": raw.id, "data-state": "waiting", "aria-labelledby": `${name}-title`, "aria-busy": "true",
    }, this.#head(name), this.summary, this.body);
    this.element.classList.toggle("small", raw.gridPos.w <= SMALL_COLUMNS);
    const { x = 0, y = 0, w, h } = raw.gridPos;
    for (const [variable, value] of Object.entries({ x: x + 1, y: y + 1, w, h })) this.element.style.setProperty(`--${variable}`, value);
    show(this.body, el("span", { class: "bone", "aria-hidden": "true" }));
  }

  /** The data of the API's reply. */
  draw(data) {
    if (!hasValues(data)) return this.#only("empty", `No data in the last ${rangeInWords(data.range_s)}.`, this.raw.fieldConfig?.defaults?.noValue);
    const Kind = KINDS[this.raw.type];
    if (!Kind) return this.#only("error", `Panels of the kind ${this.raw.type} are shown by Grafana only.`);
    this.#state("data");
    if (!this.view) {
      show(this.body);
      this.view = new Kind(this.body, this.look, {
        title: this.title, say: this.say, options: this.raw.options ?? {}, transformations: this.raw.transformations ?? [],
      });
    }
    this.view.draw(data);
    this.summary.textContent = `${this.#inWords(data)}.`;
    return null;
  }

  /** What was said to be wrong; an older picture stays, marked as old. */
  fail(error) {
    if (this.view) this.#state("stale");
    else this.#only("error", `${error.title}: ${error.detail}`);
  }

  /** Where nothing is measured: what it would show. */
  explain() {
    this.#only("off", this.raw.description);
  }

  repaint() {
    this.view?.repaint?.();
  }

  remove() {
    this.view?.remove?.();
  }

  #head(name) {
    const about = el("button", {
      type: "button", class: "about", "aria-label": `About: ${this.title}`, "aria-describedby": `${name}-about`,
      onkeydown: (event) => event.key === "Escape" && event.target.blur(),
    }, "i");
    const tip = el("p", { class: "tip", id: `${name}-about`, role: "tooltip" }, this.raw.description);
    return el("div", { class: "head" }, el("h2", { id: `${name}-title` }, this.title), this.raw.description ? [about, tip] : null);
  }

  #state(state) {
    this.element.dataset.state = state;
    this.element.setAttribute("aria-busy", "false");
  }

  #only(state, text, short = null) {
    this.#state(state);
    this.view?.remove?.();
    this.view = null;
    this.summary.textContent = "";
    show(this.body, el("div", { class: "nothing" }, short && el("p", { class: "short" }, short), el("p", {}, text)));
  }

  #inWords(data) {
    const now = this.raw.type === "timeseries" ? latest : (series) => reduced(series, this.raw.options?.reduceOptions?.calcs);
    const tells = this.raw.type === "timeseries" ? telling(data) : data.series.map(() => true);
    return data.series.filter((_, i) => tells[i]).slice(0, MOST_IN_WORDS).map((series) => {
      const value = now(series);
      return `${series.legend || "value"} ${this.look.wordFor(value)?.text ?? format(value, this.look.unit, this.look.decimals)}`;
    }).join(", ") || "0 or nothing";
  }
}
