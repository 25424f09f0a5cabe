"""How any process reaches the shards: who has which slots, connections, credentials, asking every node."""
