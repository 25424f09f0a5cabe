// Where a sentence can be read in its article.

/** The address of the reading page, at the sentence. sentencekey: sentence:<article>:{tag}:<idx>. */
export function readingPlace({ article, sentencekey }) {
  return `/articles/${encodeURIComponent(article)}#s${sentencekey.slice(sentencekey.lastIndexOf(":") + 1)}`;
}
