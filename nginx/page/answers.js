// The list of answers: one card for each, its sentence, where it comes from, its other sources.

import { el } from "./dom.js";
import { marked } from "./mark.js";
import { count, duration, finders, percent, sureness } from "./words.js";

function origin(source) {
  return el("p", { class: "origin" },
    el("cite", {}, source.title || source.article || "Untitled"),
    source.year ? el("span", { class: "year" }, String(source.year)) : null,
    el("span", { class: "shard" }, `shard ${source.shard}`),
    el("span", { class: "took" }, duration(source.took_ms)),
    typeof source.cached === "boolean"
      ? el("span", { class: "made" }, source.cached ? "cached" : "computed")
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

/** The score is made of two things: how sure the reader is, and how well the search liked the sentence. */
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
    el("p", { class: "found" }, foundBy(result)),
    otherSources((result.sources ?? []).slice(1)),
  );
}

/** All answers of a reply, as an ordered list. */
export const answerList = (results) => el("ol", { class: "answers" }, results.map(card));
