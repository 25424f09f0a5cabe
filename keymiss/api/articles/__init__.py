"""/articles: one added, looked at, deleted."""
