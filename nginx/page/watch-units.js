// Values with their units, as Grafana names them, in words for the reader: 0.0123 of "s" is "12.3 ms".

const KILO = [["", 1], ["k", 1e3], ["M", 1e6], ["G", 1e9], ["T", 1e12]];
const KIBI = [["", 1], ["Ki", 2 ** 10], ["Mi", 2 ** 20], ["Gi", 2 ** 30], ["Ti", 2 ** 40]];
const SECONDS = [[" ns", 1e-9], [" µs", 1e-6], [" ms", 1e-3], [" s", 1], [" min", 60], [" h", 3600], [" d", 86400]];

const scaled = (steps, name) => steps.map(([prefix, size]) => [`${prefix}${name}`, size]);
const bytes = (steps, name) => steps.map(([prefix, size]) => [` ${prefix}${name}`, size]);
const times = (steps, factor) => steps.map(([name, size]) => [name, size / factor]);

/** Grafana's unit -> [[what follows the number, how many of the unit it is], ...], the smallest first. */
const UNITS = {
  none: [["", 1]],
  short: KILO,
  percent: [[" %", 1]],
  percentunit: [[" %", 0.01]],
  s: SECONDS,
  ms: times(SECONDS, 1e-3),
  µs: times(SECONDS, 1e-6),
  ns: times(SECONDS, 1e-9),
  bytes: bytes(KIBI, "B"),
  decbytes: bytes(KILO, "B"),
  Bps: bytes(KILO, "B/s"),
  binBps: bytes(KIBI, "B/s"),
  ops: scaled(KILO, " ops/s"),
  reqps: scaled(KILO, " req/s"),
  cps: scaled(KILO, "/s"),
};
const BINARY = new Set(["bytes", "binBps"]);
const grouped = new Map();

function stepsOf(unit) {
  return UNITS[unit] ?? scaled(KILO, unit ? ` ${unit}` : "");
}

/** The largest step that is not over the size; the unit itself for 0. */
function stepFor(size, unit) {
  const steps = stepsOf(unit);
  if (size === 0) return steps.find(([, one]) => one === 1) ?? steps[0];
  return steps.findLast(([, one]) => size >= one * 0.99995) ?? steps[0];
}

function digits(number, decimals) {
  if (!grouped.has(decimals)) grouped.set(decimals, new Intl.NumberFormat("en", { maximumFractionDigits: decimals }));
  return grouped.get(decimals).format(number);
}

/** Three digits that say something, and never a tail of zeros. */
function usualDecimals(number) {
  const size = Math.abs(number);
  if (size === 0 || size >= 100) return 0;
  return Math.min(4, 2 - Math.floor(Math.log10(size)));
}

/** "12.3 ms", "98.2 %", "3.1 GiB", "17 req/s"; "–" for no value. decimals: fixed, else as many as say something. */
export function format(value, unit, decimals = null) {
  if (value === null || value === undefined) return "–";
  const [name, size] = stepFor(Math.abs(value), unit);
  return `${digits(value / size, decimals ?? usualDecimals(value / size))}${name}`;
}

/** The labels of an axis: all in the unit that suits the largest, with as many decimals as the steps need. */
export function ticks(values, unit) {
  const [name, size] = stepFor(Math.max(...values.map(Math.abs)), unit);
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) / size : 1;
  const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (hasHalf(step) ? 1 : 0)));
  return values.map((value) => `${digits(value / size, decimals)}${name}`);
}

/** 2.5, 0.25: a decimal more than its size says. */
function hasHalf(step) {
  const leading = step / 10 ** Math.floor(Math.log10(step) + 1e-9);
  return Math.abs(leading - Math.round(leading)) > 1e-6;
}

/** The steps an axis may have; null: the library's own decimal ones. */
export function increments(unit) {
  if (!BINARY.has(unit)) return null;
  return Array.from({ length: 50 }, (_, power) => 2 ** power);
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clockWithSeconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** "14:32:05" */
export const timeOfDay = (timeS) => clockWithSeconds.format(timeS * 1000);

/** The labels of a time axis; midnight is the day's name. */
export function timeTicks(times) {
  return times.map((timeS) => {
    const date = new Date(timeS * 1000);
    return date.getHours() || date.getMinutes() ? clock.format(date) : day.format(date);
  });
}

/** 900 as "15 minutes", 3600 as "hour": what follows "in the last" */
export function rangeInWords(rangeS) {
  const [name, size] = [["day", 86400], ["hour", 3600], ["minute", 60]].find(([, one]) => rangeS >= one) ?? ["second", 1];
  const number = Math.round(rangeS / size);
  return number === 1 ? name : `${number} ${name}s`;
}
