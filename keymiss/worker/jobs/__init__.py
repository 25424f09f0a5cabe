"""Jobs: pulled from the shards, run by threads, answered."""
