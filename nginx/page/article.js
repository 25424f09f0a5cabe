// The reading page: /articles/<id> shows an article; #s<idx> is a sentence of it, highlighted and scrolled to.

import { article } from "./api.js";
import { byId, el, show } from "./dom.js";
import { failure, notice } from "./states.js";
import { count } from "./words.js";

const LIMIT = 500; // sentences asked for at once: the most that the API gives
const AUTHORS = 6;
const NOT_SPLIT = {
  accepted: "The article is stored; its sentences follow within seconds.",
  removing: "The article is being removed.",
};

const name = decodeURIComponent(location.pathname.slice("/articles/".length));

const say = (text) => {
  byId("live").textContent = text;
};

/** An address becomes a link; a file's name stays text. */
function source(given) {
  if (!given) return null;
  if (!URL.canParse(given) || !["http:", "https:"].includes(new URL(given).protocol)) return el("span", {}, given);
  return el("a", { href: given, rel: "noopener noreferrer" }, `Source: ${new URL(given).hostname}`);
}

/** The authors, the first few of many. */
function names(authors) {
  const rest = authors.length - AUTHORS;
  return rest > 1 ? `${authors.slice(0, AUTHORS).join(", ")} and ${rest} more` : authors.join(", ");
}

function head(reply) {
  const title = reply.title || reply.article;
  document.title = `${title} – Keymiss`;
  byId("title").textContent = title;
  show(byId("facts"),
    reply.year ? el("span", { class: "year" }, String(reply.year)) : null,
    el("span", {}, reply.article),
    el("span", {}, count(reply.total, "sentence")),
    reply.journal ? el("span", {}, reply.journal) : null,
    reply.authors.length ? el("span", {}, names(reply.authors)) : null,
    source(reply.url ?? reply.source),
  );
}

/** Adds sentences to the text: a paragraph goes on until the next sentence is of another one. */
function add(sentences) {
  const text = byId("text");
  for (const each of sentences) {
    const number = String(each.paragraph ?? 0);
    if (text.lastElementChild?.dataset.number !== number) text.append(el("p", { "data-number": number }));
    text.lastElementChild.append(el("span", { id: `s${each.idx}` }, each.sentence), " ");
  }
}

/** Highlights the sentence that the address names, and brings it and the focus into view. */
function point() {
  for (const before of document.querySelectorAll("[aria-current]")) {
    before.removeAttribute("aria-current");
    before.removeAttribute("tabindex");
  }
  if (!/^#s\d+$/.test(location.hash)) return;
  const wanted = byId(location.hash.slice(1));
  if (!wanted) return show(byId("state"), notice("The sentence that you came for is not in the article any more."));
  wanted.setAttribute("aria-current", "true");
  wanted.setAttribute("tabindex", "-1");
  wanted.focus({ preventScroll: true });
  wanted.scrollIntoView({ block: "center" });
}

async function read() {
  const place = byId("article");
  place.setAttribute("aria-busy", "true");
  show(byId("text"));
  try {
    let reply = await article(name, { limit: LIMIT });
    head(reply);
    add(reply.sentences);
    for (let offset = LIMIT; offset < reply.total && reply.sentences.length; offset += LIMIT) {
      reply = await article(name, { limit: LIMIT, offset });
      add(reply.sentences);
    }
    const why = reply.skipped ? `Not searched: ${reply.skipped}.` : NOT_SPLIT[reply.state];
    show(byId("state"), why && notice(why));
    say(`${byId("title").textContent}. ${count(reply.total, "sentence")}.`);
    point();
  } catch (error) {
    byId("title").textContent ||= name;
    show(byId("state"), failure(error, read));
    say(`${error.title}. ${error.detail}`);
  } finally {
    place.setAttribute("aria-busy", "false");
  }
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("article").focus();
});
addEventListener("hashchange", point);
read();
