// The list of answers: one card for each, its sentence, where it comes from, its other sources.

import { el } from "./dom.js";
import { marked } from "./mark.js";
import { readingPlace } from "./reading.js";
import { count, duration, finders, percent, sureness } from "./words.js";

function origin(source) {
  return el("p", { class: "origin" },
    el("cite", {}, el("a", { href: readingPlace(source) }, source.title || source.article || "Untitled")),
    source.year ? el("span", { class: "year" }, String(source.year)) : null,
    source.shard ? el("span", { class: "shard technical" }, `shard ${source.shard}`) : null,
    "took_ms" in source ? el("span", { class: "took technical" }, duration(source.took_ms)) : null,
    typeof source.cached === "boolean"
      ? el("span", { class: "made technical" }, source.cached ? "cached" : "computed")
      : null,
  );
}

function score(result) {
  const word = sureness(result.score);
  return el("p", { class: `score ${word}` },
    el("span", { class: "word" }, word), " ",
    el("span", { class: "percent" }, percent(result.score)),
  );
}

/** The score is made of how sure the reader is, and how much of the question stands in and around the sentence. */
function foundBy(result) {
  const found = result.found_by?.length ? `Found by ${finders(result.found_by)}. ` : "";
  return `${found}The reader alone is ${percent(result.reader_score)} sure.`;
}

function otherSources(sources) {
  if (!sources.length) return null;
  return el("details", { class: "sources" },
    el("summary", {}, `${count(sources.length, "more source")} for this answer`),
    el("ul", {}, sources.map((source) => el("li", {}, marked(source), origin(source)))),
  );
}

function card(result) {
  return el("li", { class: "answer" },
    el("div", { class: "head" }, el("h3", {}, result.answer), score(result)),
    marked(result),
    origin(result),
    el("p", { class: "found technical" }, foundBy(result)),
    otherSources((result.sources ?? []).slice(1)),
  );
}

function passage(each) {
  return el("li", { class: "passage" },
    el("blockquote", {}, each.sentence),
    origin(each),
    el("p", { class: "found technical" }, `Found by ${finders(each.found_by)}. Search score ${percent(each.retrieval_score)} of the best.`),
  );
}

/** Sentences to read on, best first, under a heading; null when there are none. */
export function passageList(passages, heading) {
  if (!passages?.length) return null;
  return el("section", { class: "closest", "aria-labelledby": "closest-title" },
    el("h3", { id: "closest-title" }, heading),
    el("ol", { class: "passages" }, passages.map(passage)),
  );
}

/** All answers of a reply, as an ordered list. */
export const answerList = (results) => el("ol", { class: "answers" }, results.map(card));
