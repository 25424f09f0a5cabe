"""/metrics: this process's figures and the shards'."""
