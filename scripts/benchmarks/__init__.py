"""The parts of scripts/bench.py: a file a subject."""
