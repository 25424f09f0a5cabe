"""Retrieval: which sentences of which shard may answer a question.

Three signals rank the sentences of all shards: BM25 over words (lexical.py), the cosine of vectors
(vectors.py), and links of the concept graph, if the caller has any. fuse.py makes one ranking of them. Each
shard has an index of its own (index.py), in this process's memory, that follows the shard (follow.py).
"""

from keymiss.corpus.stop_words import STOP_WORDS
from keymiss.retrieval.across_shards import Retrieval
from keymiss.retrieval.candidate import Candidate, parse_sentence_key
from keymiss.retrieval.corpus_filter import WHOLE_CORPUS, CorpusFilter
from keymiss.retrieval.fuse import Mix
from keymiss.retrieval.index import ShardIndex

__all__ = [
    "STOP_WORDS",
    "WHOLE_CORPUS",
    "Candidate",
    "CorpusFilter",
    "Mix",
    "Retrieval",
    "ShardIndex",
    "parse_sentence_key",
]
