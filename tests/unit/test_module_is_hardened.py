"""The module has a stack protector, checked copies, and a relocation table that is read-only at once."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.servers import module_path


def readelf(what: str) -> str:
    return subprocess.check_output(["readelf", "-W", what, str(module_path())], text=True)


@pytest.mark.skipif("KEYMISS_MODULE" in os.environ, reason="a build of another kind")
def test_usual_hardening() -> None:
    symbols, segments, dynamic = readelf("--dyn-syms"), readelf("--segments"), readelf("--dynamic")
    assert "__stack_chk_fail" in symbols
    assert "_chk@" in symbols.replace("__stack_chk_fail@", "")
    assert "GNU_RELRO" in segments
    assert "NOW" in dynamic
    (stack,) = (line for line in segments.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
