"""POST /qasearch: one question to the shards, their answers merged."""
