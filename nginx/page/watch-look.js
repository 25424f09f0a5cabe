// How a panel wants its values to look: unit, threshold colours, words for values. From Grafana's panel JSON.

const HUES = ["green", "yellow", "orange", "red", "blue", "purple"];
const LINES = 10; // --line-1 … --line-10 of watch-panels.css

/** Grafana's colour name ("dark-red", "semi-dark-green", "#aabbcc") as one of the page's hues; "plain" if it has none. */
export function hue(name) {
  return HUES.find((each) => String(name).endsWith(each)) ?? "plain";
}

/** The CSS variable of a hue, for text and shapes: readable on the sheet in light and dark. */
export const hueVariable = (name) => `--hue-${name}`;

/** The same as a colour. */
export const colour = (name) => `var(${hueVariable(name)})`;

/** The CSS variable of the n-th line. */
export const lineVariable = (index) => `--line-${(index % LINES) + 1}`;

/** raw: a panel of a dashboard. */
export class Look {
  constructor(raw) {
    const { defaults = {} } = raw.fieldConfig ?? {};
    this.unit = defaults.unit ?? "none";
    this.decimals = defaults.decimals ?? null;
    this.min = defaults.min ?? null;
    this.max = defaults.max ?? null;
    this.noValue = defaults.noValue ?? "No data";
    this.mappings = defaults.mappings ?? [];
    this.steps = (defaults.thresholds?.steps ?? []).map(({ value, color }) => ({ from: value ?? -Infinity, hue: hue(color) }));
    this.ofRange = defaults.thresholds?.mode === "percentage";
    this.custom = defaults.custom ?? {};
  }

  /** The hue of a value: that of its word, else of the highest threshold it reaches. */
  hueOf(value) {
    const word = this.wordFor(value);
    if (word?.color) return hue(word.color);
    const at = this.ofRange ? (100 * (value - (this.min ?? 0))) / ((this.max ?? 100) - (this.min ?? 0)) : value;
    return this.steps.findLast(({ from }) => at >= from)?.hue ?? "plain";
  }

  /** {text, color} of Grafana's value mappings, or null. */
  wordFor(value) {
    for (const { type, options } of this.mappings) {
      if (type === "value" && options[String(value)]) return options[String(value)];
      if (type === "range" && value >= (options.from ?? -Infinity) && value <= (options.to ?? Infinity)) return options.result;
      if (type === "special" && value === null && /null/.test(options.match)) return options.result;
    }
    return null;
  }
}
