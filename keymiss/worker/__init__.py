"""The worker: pulls jobs from the shards and runs gears functions and models.

Layers, each usable without the one above: `shards` (discovery, connections) and `resp` - `jobs`,
`pull`, `pool` (queue and scheduling) - `builder`, `execution`, `scripts`, `gears_api` (functions) -
`model_processes`, `model_runner` (models). `main` ties them together.
"""
