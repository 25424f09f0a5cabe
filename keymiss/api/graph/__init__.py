"""/search and /edge: what the concept graph holds."""
