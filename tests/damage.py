"""Bytes of a payload, damaged at random."""

from __future__ import annotations

import random


def damaged_at_random(rng: random.Random, body: bytes) -> bytes:
    """Bytes changed, removed, repeated or inserted, in up to five places."""
    damaged = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(damaged))
        end = min(len(damaged), at + rng.randrange(1, 9))
        what = rng.randrange(4)
        if what == 0:
            damaged[at] = rng.choice((0, 1, 0x40, 0x7F, 0x80, 0x81, 0xC0, 0xC3, 0xFF, rng.randrange(256)))
        elif what == 1 and end - at < len(damaged):
            del damaged[at:end]
        elif what == 2:
            damaged[at:at] = damaged[at:end]
        else:
            damaged[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(damaged)
