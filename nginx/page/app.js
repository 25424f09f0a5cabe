// What the page does when: the address (#q=question&concept=name, and the filters) says what is shown; the form changes
// the address. /?q=question is taken too, and becomes that address: what stands before the # is sent to the server.

import { Answers } from "./asking.js";
import { byId } from "./dom.js";
import { FilterForm, fromAddress, toAddress, toRequest } from "./filters.js";
import { Links } from "./links.js";
import { Panel } from "./panel.js";
import { Recent } from "./recent.js";
import { technicalToggle } from "./technical.js";

const field = byId("question");
const hint = byId("hint");
const usualHint = [...hint.childNodes];
const onScreenKeyboard = matchMedia("(pointer: coarse)").matches;

const say = (text) => {
  byId("live").textContent = text;
};
const panel = new Panel(byId("panel"), say);
const answers = new Answers(say);
const links = new Links({ say, open: (link, from) => panel.open(link, from), go: (concept) => go(shown, filters, concept) });
const recent = new Recent(byId("recent"), (question) => go(question));
const form = new FilterForm();

let shown = ""; // the question whose answers are on the page
let filters = fromAddress(new URLSearchParams()); // and what was searched for them

function address() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  return { question: (wanted.get("q") ?? "").trim(), concept: wanted.get("concept"), only: fromAddress(wanted) };
}

/** Changes the address; the same one again asks again. */
function go(question, only = fromAddress(new URLSearchParams()), concept = null) {
  const wanted = new URLSearchParams({ q: question, ...toAddress(only), ...(concept && { concept }) }).toString();
  if (location.hash === `#${wanted}`) {
    shown = "";
    route();
  } else {
    location.hash = wanted;
  }
}

function route() {
  const { question, concept, only } = address();
  const changed = question !== shown || JSON.stringify(only) !== JSON.stringify(filters);
  panel.close();
  byId("main").hidden = !question;
  document.body.classList.toggle("home", !question);
  document.title = question ? `${question} – Keymiss` : "Keymiss";
  if (!question) {
    shown = "";
    answers.stop();
    links.stop();
  } else if (changed) {
    shown = question;
    filters = only;
    field.value = question;
    form.write(only);
    recent.add(question);
    answers.ask(question, toRequest(only));
    links.forget();
  }
  if (question) links.show(question, concept);
  recent.draw(!question);
}

function complain(text) {
  hint.classList.toggle("wrong", Boolean(text));
  field.setAttribute("aria-invalid", String(Boolean(text) && !field.value.trim()));
  hint.replaceChildren(...(text ? [text] : usualHint));
  if (text) say(text);
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = field.value.trim().replace(/\s+/g, " ");
  const { given, wrong, field: wrongField } = form.read();
  complain(question ? wrong : "Type a question first.");
  if (!question) return field.focus();
  if (wrong) {
    form.place.open = true;
    return wrongField.focus();
  }
  if (onScreenKeyboard) field.blur(); // it would hide the answers
  return go(question, given);
});

field.addEventListener("input", () => complain(""));

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  (byId("main").hidden ? field : byId("answers")).focus();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || byId("panel").open) return;
  event.preventDefault();
  field.focus();
  field.select();
});

for (const example of byId("examples").querySelectorAll("button")) {
  example.addEventListener("click", () => go(example.textContent));
}

technicalToggle(byId("technical"));
const asked = new URLSearchParams(location.search);
if (asked.has("q")) {
  const wanted = new URLSearchParams({ q: asked.get("q"), ...toAddress(fromAddress(asked)) });
  history.replaceState(null, "", `/#${wanted}`);
}
addEventListener("hashchange", route);
route();
if (!shown && !onScreenKeyboard) field.focus();
