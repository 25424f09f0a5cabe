"""What a miss costs beside the model: functions that cost nothing."""

from __future__ import annotations

import statistics

from scripts.benchmarks.figures import Results, Row, at_least, at_most
from scripts.benchmarks.options import Options
from scripts.benchmarks.redis_benchmark import redis_benchmark
from tests.servers import RedisServer, WorkerProcess

CLIENTS = 50
NOTHING = """
def nothing(record):
    override_reply('x')

GB('KeysReader').foreach(nothing).register(
    prefix='nothing:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""
A_RUN = """
import asyncio, redisAI

async def one(record=None):
    runner = redisAI.createModelRunner('free')
    redisAI.modelRunnerAddInput(runner, 'x', redisAI.createTensorFromValues('FLOAT', [1], [1]))
    redisAI.modelRunnerAddOutput(runner, 'y')
    await redisAI.modelRunnerRunAsync(runner)
    override_reply('x', record)
"""
WITH_A_MODEL = f"""{A_RUN}
async def run(record):
    await one()

GB('KeysReader').foreach(run).register(
    prefix='free:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""
MISSES_TOGETHER = f"""{A_RUN}
async def run(records):
    await asyncio.gather(*map(one, records))

GB('KeysReader').foreach(run).register(
    prefix='together:', eventTypes=['keymiss'], commands=['get'], mode='async_local', missBatch=16)
"""


def free_misses(results: Results, options: Options) -> None:
    """Rows of 50 clients and of one; each key another."""
    many_requests, one_requests = options.size.free_requests
    with RedisServer() as server, WorkerProcess(server, "--backend", "dummy"), server.client() as client:
        client.execute_command("AI.MODELSTORE", "free", "TORCH", "CPU", "BLOB", "{}")
        for what, prefix, script in (
            ("miss of a function that does nothing", "nothing", NOTHING),
            ("miss of a function that runs a model that does nothing", "free", WITH_A_MODEL),
            ("the same, of one that takes misses together (missBatch=16)", "together", MISSES_TOGETHER),
        ):
            client.execute_command("RG.PYEXECUTE", script)
            command = ("get", f"{prefix}:__rand_int__")
            redis_benchmark(server.port, CLIENTS, many_requests // 5, *command)
            rounds = range(options.size.rounds)
            many = [redis_benchmark(server.port, CLIENTS, many_requests, *command)[0] for _ in rounds]
            one = [redis_benchmark(server.port, 1, one_requests, *command)[1] for _ in rounds]
            enough = at_least(2000, statistics.median(many), "at least 2,000 /s")
            quick = at_most(1.5, statistics.median(one), "at most 1.5 ms")
            results.add(
                Row.of("free", f"{what}, {CLIENTS} clients", "/s", many, goal=enough),
                Row.of("free", f"{what}, one client", "ms", one, goal=quick),
            )
