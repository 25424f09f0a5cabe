"""How sure it is that a sentence answers: what the reader says of it, and what retrieval saw of it.

The reader alone is too sure of a sentence that is of the question's subject and lacks what it asks about
(another virus, another city). So its score is put together with how much of the question stands in the
sentence and its neighbours, and with the cosine of their vectors. No input or output here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keymiss.retrieval import Candidate

LOWEST = 1e-6  # of a reader's score, and 1 less this the highest: what the weights were fitted with


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a logistic regression; `reader` is that of the reader's score as log odds."""

    reader: float
    coverage: float
    cosine: float
    shift: float

    def probability(self, reader_score: float, candidate: Candidate) -> float:
        """In (0, 1)."""
        x = self.reader * log_odds(reader_score) + self.outlook(candidate)
        return 1 / (1 + math.exp(-x))

    def outlook(self, candidate: Candidate) -> float:
        """The part of the log odds that is known before the sentence is read."""
        return self.coverage * candidate.coverage + self.cosine * (candidate.cosine or 0.0) + self.shift


# By keymiss models calibrate-answers --limit 100: SQuADShifts' Wikipedia, BioASQ, NQ, TyDi, SQuAD, COVID-QA.
WITH_VECTORS = Weights(reader=0.914, coverage=2.83, cosine=7.666, shift=-5.676)
WORDS_ALONE = Weights(reader=0.996, coverage=4.124, cosine=0.0, shift=-2.462)


def log_odds(score: float) -> float:
    """Of a score in [0, 1], whose ends are cut."""
    kept = min(max(score, LOWEST), 1 - LOWEST)
    return math.log(kept / (1 - kept))


def sureness(reader_score: float, candidate: Candidate) -> float:
    """The probability that the question is answered, if half of all questions are."""
    return _weights_for(candidate).probability(reader_score, candidate)


def outlook(candidate: Candidate) -> float:
    """What retrieval says of it, in log odds. One that lies far behind another can only win if the reader is
    as much surer of it, which is rare."""
    return _weights_for(candidate).outlook(candidate)


def _weights_for(candidate: Candidate) -> Weights:
    return WORDS_ALONE if candidate.cosine is None else WITH_VECTORS
