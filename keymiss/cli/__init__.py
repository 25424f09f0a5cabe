"""The command line: python -m keymiss.cli."""
