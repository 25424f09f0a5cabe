// Reading a panel's data, {series: [{ref, legend, labels, points: [[t_s, value], …]}], step_s, range_s}.

const LATE_POINTS = 3; // a value that is missing in so many points is missing now

const values = (series) => series.points.map(([, value]) => value).filter((value) => value !== null);

const REDUCERS = {
  lastNotNull: (all) => all.at(-1),
  last: (all) => all.at(-1),
  firstNotNull: (all) => all[0],
  first: (all) => all[0],
  min: (all) => Math.min(...all),
  max: (all) => Math.max(...all),
  sum: (all) => all.reduce((one, other) => one + other, 0),
  mean: (all) => REDUCERS.sum(all) / all.length,
  range: (all) => Math.max(...all) - Math.min(...all),
};

/** Whether anything was measured. */
export const hasValues = (data) => data.series.some((series) => series.points.some(([, value]) => value !== null));

/** Which series say something: not those that were 0 or missing all the time. */
export const telling = (data) => data.series.map((series) => series.points.some(([, value]) => value));

/** One number of a series, or null. calcs: Grafana's, as ["lastNotNull"]. */
export function reduced(series, calcs = []) {
  const all = values(series);
  return all.length ? (REDUCERS[calcs[0]] ?? REDUCERS.lastNotNull)(all) : null;
}

/** The value now, or null: one that is some points old is not shown as the present. */
export function latest(series) {
  return series.points.slice(-LATE_POINTS).findLast(([, value]) => value !== null)?.[1] ?? null;
}

/** Time of the last point, seconds since 1970. */
export const endOf = (data) => Math.max(...data.series.map((series) => series.points.at(-1)?.[0] ?? 0));
