"""Keymiss: a GET that misses is a question, and the shard that owns the key answers it."""

__version__ = "0.1.0"
