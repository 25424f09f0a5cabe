"""What a gears function sees: the API of RedisGears 1.2 and its redisAI module, and how its flow is run."""
