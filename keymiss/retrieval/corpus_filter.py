"""Which part of the corpus a question is asked of: some years, some articles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CorpusFilter:
    """Only sentences of these years and articles are searched. None: that side is open; no article: all are.

    The year is the article's, as the pipeline split it (``state:<article>:{tag}``). An article whose year is
    not known is of no year.
    """

    first_year: int | None = None
    last_year: int | None = None
    articles: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return self.by_year or bool(self.articles)

    @property
    def by_year(self) -> bool:
        """Whether years are left out."""
        return self.first_year is not None or self.last_year is not None

    def takes(self, article: str, year: int | None) -> bool:
        """Whether an article's sentences are searched."""
        if self.articles and article not in self.articles:
            return False
        if not self.by_year:
            return True
        return year is not None and not (
            (self.first_year is not None and year < self.first_year)
            or (self.last_year is not None and year > self.last_year)
        )


WHOLE_CORPUS = CorpusFilter()
