"""What programs import is left alone by the garbage collector."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from keymiss.for_good import for_good
from tests.patience import patient

ENDS = """
import atexit, gc
from keymiss.cli.__main__ import main
atexit.register(lambda: print("left to collect:", len(gc.get_objects())))
main()
"""


def test_what_is_made_inside_is_not_looked_at_again() -> None:
    with for_good():
        assert not gc.isenabled()
        made: list[object] = [{}]
    assert gc.isenabled()
    assert not any(each is made for each in gc.get_objects())
    later: list[object] = [{}]
    assert any(each is later for each in gc.get_objects())


def test_it_is_collected_again_after_an_error() -> None:
    with pytest.raises(ImportError), for_good():
        raise ImportError
    assert gc.isenabled()


def test_a_command_ends_without_a_look_at_all_that_it_imported() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, "--version"], capture_output=True, text=True, timeout=patient(60)
    )
    said, left = ended.stdout.splitlines()
    assert said.startswith("keymiss ")
    assert int(left.rpartition(" ")[2]) < 1000
