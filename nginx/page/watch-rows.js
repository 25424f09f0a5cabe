// What is now, row by row: bars, and tables.

import { el, show } from "./dom.js";
import { colour } from "./watch-look.js";
import { latest, reduced } from "./watch-points.js";
import { format } from "./watch-units.js";

const byText = (one, other) => String(one ?? "").localeCompare(String(other ?? ""), "en", { numeric: true });

export class Bars {
  constructor(place, look, { options }) {
    Object.assign(this, { place, look, calcs: options.reduceOptions?.calcs });
  }

  draw(data) {
    const shown = data.series.map((series) => ({ name: series.legend, value: reduced(series, this.calcs) }))
      .filter(({ value }) => value !== null);
    const least = this.look.min ?? 0;
    const most = this.look.max ?? Math.max(...shown.map(({ value }) => value));
    show(this.place, el("ul", { class: "bars" }, shown.map(({ name, value }) => {
      const bar = el("span", { class: "fill" });
      bar.style.width = `${most > least ? Math.min(100, Math.max(0, (100 * (value - least)) / (most - least))) : 0}%`;
      bar.style.background = colour(this.look.hueOf(value));
      return el("li", {},
        el("span", { class: "series" }, name || "value"),
        el("span", { class: "now" }, this.look.wordFor(value)?.text ?? format(value, this.look.unit, this.look.decimals)),
        el("span", { class: "rail", "aria-hidden": "true" }, bar),
      );
    })));
  }
}

/** A row for each set of labels, a column for each label, the queries' values last; Grafana's "organize" renames. */
export class Table {
  constructor(place, look, { options, transformations, title }) {
    const { excludeByName = {}, renameByName = {}, indexByName = {} } = transformations.find(({ id }) => id === "organize")?.options ?? {};
    Object.assign(this, { place, look, title, options, excludeByName, renameByName, indexByName });
  }

  draw(data) {
    const refs = [...new Set(data.series.map(({ ref }) => ref))];
    const valueName = (ref) => (refs.length > 1 ? `Value #${ref}` : "Value");
    const labels = [...new Set(data.series.flatMap((series) => Object.keys(series.labels)))].filter((name) => name !== "__name__").sort();
    const columns = [...labels, ...refs.map(valueName)].filter((name) => !this.excludeByName[name])
      .sort((one, other) => (this.indexByName[one] ?? 0) - (this.indexByName[other] ?? 0));
    const rows = new Map();
    for (const { ref, labels: of, points } of data.series) {
      const key = JSON.stringify(labels.map((name) => of[name] ?? ""));
      if (!rows.has(key)) rows.set(key, { ...of });
      rows.get(key)[valueName(ref)] = latest({ points });
    }
    const sorted = [...rows.values()].sort((one, other) => labels.map((name) => byText(one[name], other[name])).find(Boolean) ?? 0);
    const isValue = (name) => !labels.includes(name);
    show(this.place, el("div", { class: "scroll" }, el("table", {},
      el("caption", { class: "unseen" }, this.title),
      el("thead", {}, el("tr", {}, columns.map((name) =>
        el("th", { scope: "col", class: isValue(name) && "value" }, this.renameByName[name] ?? name)))),
      el("tbody", {}, sorted.map((row) => el("tr", {}, columns.map((name) => (isValue(name) ? this.#value(row[name]) : el("td", {}, row[name] || "–")))))),
    )));
  }

  #value(value) {
    const word = this.look.wordFor(value);
    if (!word) return el("td", { class: "value" }, format(value, this.look.unit, this.look.decimals));
    const dot = el("span", { class: "swatch", "aria-hidden": "true" });
    dot.style.background = colour(this.look.hueOf(value));
    return el("td", { class: "value" }, dot, word.text);
  }
}
