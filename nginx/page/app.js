// What the page does when: the address (#q=question&concept=name) says what is shown; the form changes the address.

import { Answers } from "./asking.js";
import { byId } from "./dom.js";
import { Links } from "./links.js";
import { Panel } from "./panel.js";
import { Recent } from "./recent.js";

const field = byId("question");
const hint = byId("hint");
const usualHint = [...hint.childNodes];
const onScreenKeyboard = matchMedia("(pointer: coarse)").matches;

const say = (text) => {
  byId("live").textContent = text;
};
const panel = new Panel(byId("panel"), say);
const answers = new Answers(say);
const links = new Links({ say, open: (link, from) => panel.open(link, from), go: (concept) => go(shown, concept) });
const recent = new Recent(byId("recent"), (question) => go(question));

let shown = ""; // the question whose answers are on the page

function address() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  return { question: (wanted.get("q") ?? "").trim(), concept: wanted.get("concept") };
}

/** Changes the address; the same one again asks again. */
function go(question, concept = null) {
  const wanted = new URLSearchParams(concept ? { q: question, concept } : { q: question }).toString();
  if (location.hash === `#${wanted}`) {
    shown = "";
    route();
  } else {
    location.hash = wanted;
  }
}

function route() {
  const { question, concept } = address();
  panel.close();
  byId("main").hidden = !question;
  document.body.classList.toggle("home", !question);
  document.title = question ? `${question} – Keymiss` : "Keymiss";
  if (!question) {
    shown = "";
    answers.stop();
    links.stop();
  } else if (question !== shown) {
    shown = question;
    field.value = question;
    recent.add(question);
    answers.ask(question);
    links.forget();
  }
  if (question) links.show(question, concept);
  recent.draw(!question);
}

function complain(text) {
  hint.classList.toggle("wrong", Boolean(text));
  field.setAttribute("aria-invalid", String(Boolean(text)));
  hint.replaceChildren(...(text ? [text] : usualHint));
  if (text) say(text);
}

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = field.value.trim().replace(/\s+/g, " ");
  complain(question ? "" : "Type a question first.");
  if (!question) return field.focus();
  if (onScreenKeyboard) field.blur(); // it would hide the answers
  return go(question);
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

addEventListener("hashchange", route);
route();
if (!shown && !onScreenKeyboard) field.focus();
