// What the page /watch does when: the address (?dashboard=uid&range=seconds) says what is shown, a clock reads it anew.

import { dashboard, dashboards, panelData } from "./api.js";
import { byId, el, show } from "./dom.js";
import { failure, notice } from "./states.js";
import { Panel } from "./watch-panel.js";
import { rangeInWords, timeOfDay } from "./watch-units.js";
import { count } from "./words.js";

const REFRESH_MS = 5000;
const RANGES = [[300, "5 m"], [900, "15 m"], [3600, "1 h"], [21600, "6 h"], [86400, "24 h"]];
const USUAL_RANGE_S = 900;

const say = (text) => {
  byId("live").textContent = text;
};

let known = { dashboards: [], measured: true };
let shown = null; // {uid, title, panels: [Panel]}
let rangeS = USUAL_RANGE_S;
let paused = false;
let timer = 0;
let reading = new AbortController();

function address() {
  const wanted = new URLSearchParams(location.search);
  const uid = wanted.get("dashboard");
  const range = Number(wanted.get("range"));
  return {
    uid: known.dashboards.some((each) => each.uid === uid) ? uid : known.dashboards[0]?.uid,
    range: RANGES.some(([each]) => each === range) ? range : USUAL_RANGE_S,
  };
}

/** Changes the address and shows what it says. */
function go({ uid = shown?.uid, range = rangeS }) {
  history.pushState(null, "", `?${new URLSearchParams({ dashboard: uid, range })}`);
  return route();
}

async function route() {
  const { uid, range } = address();
  rangeS = range;
  byId(`range-${range}`).checked = true;
  for (const tab of byId("tabs").children) {
    tab.setAttribute("aria-selected", String(tab.dataset.uid === uid));
    tab.tabIndex = tab.dataset.uid === uid ? 0 : -1;
    if (tab.dataset.uid === uid) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  if (!uid) return show(byId("trouble"), notice("There are no dashboards: the folder grafana/dashboards is empty."));
  byId("panels").setAttribute("aria-labelledby", `tab-${uid}`);
  reading.abort();
  reading = new AbortController();
  if (shown?.uid !== uid && !(await open(uid, reading.signal))) return null;
  return refresh(true);
}

/** Reads a dashboard and makes its empty panels. Whether it could. */
async function open(uid, signal) {
  try {
    const raw = await dashboard(uid, signal);
    for (const panel of shown?.panels ?? []) panel.remove();
    const panels = raw.panels.filter((each) => each.type !== "row").sort((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x)
      .map((each) => new Panel(each, say));
    shown = { uid, title: raw.title, panels };
    document.title = `${raw.title} – Watch – Keymiss`;
    byId("about").textContent = raw.description ?? "";
    show(byId("panels"), panels.map((panel) => panel.element));
    return true;
  } catch (error) {
    if (error.name !== "AbortError") show(byId("trouble"), failure(error, route));
    return false;
  }
}

/** Reads every panel's data, draws it, and says what is wrong, once if it is the same for all. */
async function refresh(announce = false) {
  clearTimeout(timer);
  if (!shown) return;
  const { uid, title, panels } = shown;
  const { signal } = reading;
  const faults = (await Promise.all(panels.map((panel) => read(uid, panel, signal)))).filter(Boolean);
  if (signal.aborted) return;
  const all = faults.length === panels.length && faults.every((each) => each.title === faults[0].title) ? faults[0] : null;
  if (all) await trouble(all, announce);
  else show(byId("trouble"));
  byId("panels").classList.toggle("off", Boolean(all) && !known.measured);
  if (!all) byId("when").textContent = `${paused ? "Paused. Read" : "Read"} at ${timeOfDay(Date.now() / 1000)}`;
  document.body.dataset.read = String(Number(document.body.dataset.read ?? 0) + 1);
  if (announce && !all) {
    const without = panels.filter((panel) => panel.element.dataset.state === "empty").length;
    say(`${title}, the last ${rangeInWords(rangeS)}: ${count(panels.length, "panel")}${without ? `, ${without} without data` : ""}.`);
  }
  schedule();
}

/** null, or the error; a panel of another dashboard is left alone. */
async function read(uid, panel, signal) {
  try {
    const data = await panelData(uid, panel.id, rangeS, signal);
    if (!signal.aborted) panel.draw(data);
    return null;
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return null;
    if (!error.title) throw error;
    panel.fail(error);
    return error;
  }
}

/** One notice for all panels. Where nothing is measured they say what they would show. */
async function trouble(error, announce) {
  known = await dashboards().catch(() => known); // it may have been started again, with Prometheus or without
  if (!known.measured) for (const panel of shown.panels) panel.explain();
  const before = byId("trouble").textContent;
  const again = () => refresh(true);
  const said = known.measured ? failure(error, again)
    : notice(`${error.title}. ${error.detail}. The panels say what they would show.`, { label: "Try again", run: again });
  if (announce || before !== said.textContent) show(byId("trouble"), said);
  if (announce || !before) say(`${error.title}. ${error.detail}`);
}

function schedule() {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(refresh, REFRESH_MS);
}

function pause() {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Go on" : "Pause";
  document.body.classList.toggle("paused", paused);
  say(paused ? "Paused." : "Going on.");
  if (!paused) return refresh();
  clearTimeout(timer);
  byId("when").textContent = `Paused. ${byId("when").textContent}`;
  return null;
}

function tab({ uid, title }, index) {
  return el("button", {
    type: "button", role: "tab", id: `tab-${uid}`, "data-uid": uid, "aria-controls": "panels", "aria-keyshortcuts": String(index + 1),
    onclick: () => go({ uid }),
  }, title);
}

byId("tabs").addEventListener("keydown", (event) => {
  const all = [...byId("tabs").children];
  const at = all.indexOf(event.target);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = all.at(to % all.length);
  next.focus();
  go({ uid: next.dataset.uid });
});

byId("ranges").append(...RANGES.map(([seconds, name]) => el("label", {},
  el("input", {
    type: "radio", name: "range", id: `range-${seconds}`, value: seconds, "aria-label": `The last ${rangeInWords(seconds)}`,
    onchange: () => go({ range: seconds }),
  }),
  el("span", { "aria-hidden": "true" }, name),
)));

byId("pause").addEventListener("click", pause);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("panels").focus();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "p") pause();
  else if (event.key === "r") refresh(true);
  else if (/^[1-9]$/.test(event.key) && known.dashboards[event.key - 1]) go({ uid: known.dashboards[event.key - 1].uid });
});

document.addEventListener("visibilitychange", () => (document.hidden || paused ? clearTimeout(timer) : refresh()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown?.panels.forEach((panel) => panel.repaint()));
addEventListener("popstate", route);

async function start() {
  try {
    known = await dashboards();
  } catch (error) {
    return show(byId("trouble"), failure(error, () => start()));
  }
  show(byId("trouble"));
  show(byId("tabs"), known.dashboards.map(tab));
  return route();
}

start();
