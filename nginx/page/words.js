// Numbers and states as words.

/** "1 sentence", "3 sentences" */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** "a", "a and b", "a, b and c" */
export function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** 0.834 as "83 %". Never "0 %" or "100 %": the reader is never that sure. */
export const percent = (score) => `${Math.min(99, Math.max(1, Math.round(score * 100)))} %`;

/** What the percentage means. */
export const sureness = (score) => (score >= 0.5 ? "likely" : score >= 0.2 ? "possible" : "unsure");

/** Milliseconds: "0.4 ms", "18 ms", "2.1 s" */
export function duration(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

const FINDERS = { bm25: "its words", vectors: "its meaning", graph: "links between concepts" };

/** ["bm25", "graph"] as "its words and links between concepts" */
export const finders = (names) => listed(names.map((name) => FINDERS[name] ?? name));

/** What was read, as the parts of one sentence: what everybody may want to know, and the rest. coverage: the reply's. */
export function whatWasRead({ sentences, shards }, tookMs) {
  const where = count(shards.answered.length, "shard");
  return [`Read ${count(sentences.answered, "sentence")}`, ` on ${where} in ${duration(tookMs)}`];
}

const SIGNALS = { vectors: "meaning", links: "links between concepts" };
const REASONS = { late: "not in time", busy: "too much to do", failed: "failed", incomplete: "not ready for all sentences" };

/** What the sentences could not be found by, as one sentence; unused: the coverage's, an object of its list. */
function whatWasNotUsed({ signal, reason, missing }) {
  const where = missing.length ? `, ${missing.length === 1 ? "shard" : "shards"} ${listed(missing)}` : "";
  return `Not all could be searched by ${SIGNALS[signal] ?? signal}: ${REASONS[reason] ?? reason}${where}.`;
}

/** What is missing from the answers; empty when nothing is. */
export function whatIsMissing({ sentences, shards, unused }) {
  const named = (tags) => `${tags.length === 1 ? "Shard" : "Shards"} ${listed(tags)}`;
  const was = (tags) => (tags.length === 1 ? "was" : "were");
  const parts = [];
  if (sentences.late) {
    parts.push(`${named(shards.late)} ${was(shards.late)} late: ${count(sentences.late, "sentence")} could not be read in time.`);
  }
  if (sentences.failed) {
    parts.push(`${named(shards.failed)} failed: ${count(sentences.failed, "sentence")} could not be read.`);
  }
  if (shards.unindexed.length) {
    parts.push(`${named(shards.unindexed)} ${was(shards.unindexed)} not searched: not indexed yet.`);
  }
  parts.push(...unused.map(whatWasNotUsed));
  return parts.join(" ");
}
