// An answer marked in its sentence. Offsets count Unicode code points; JavaScript's strings count UTF-16 units.

import { el } from "./dom.js";

/** [before, answer, after], or null when the offsets do not lie in the sentence. */
export function cut(sentence, start, end) {
  const points = Array.from(sentence);
  if (!Number.isInteger(start) || !Number.isInteger(end)) return null;
  if (start < 0 || end <= start || end > points.length) return null;
  return [points.slice(0, start), points.slice(start, end), points.slice(end)].map((part) => part.join(""));
}

/** The sentence as a quotation with the answer in a <mark>; unmarked when nobody knows where the answer is. */
export function marked({ sentence, start, end }) {
  const parts = cut(sentence, start, end);
  if (!parts) return el("blockquote", {}, sentence);
  return el("blockquote", {}, parts[0], el("mark", {}, parts[1]), parts[2]);
}
