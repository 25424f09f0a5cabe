"""Which tests run beside each other when several processes of pytest-xdist run them: `--dist loadfile`."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

HEAVY = (
    "tests/e2e/test_local_users.py",
    "tests/e2e/test_observe.py",
    "tests/e2e/test_original_loading_program.py",
    "tests/e2e/test_start_stop.py",
    "tests/e2e/test_started_by_a_user.py",
    "tests/e2e/test_whole_system.py",
    "tests/page/test_watch.py",
)
"""Files that want a machine's cores for themselves: one of them at a time, beginning with the first test."""
SHARING = "tests/page/"
"""The folder whose files share a fixture: a site and a browser."""


def group_of(test: str) -> str:
    """The tests of one group run one after the other in one process."""
    file = test.partition("::")[0]
    if file in HEAVY:
        return "heavy"
    return SHARING if file.startswith(SHARING) else file


def first_the_heavy(items: list[pytest.Item]) -> None:
    """They take longest. The others stay in their order."""
    items.sort(key=lambda item: group_of(item.nodeid) != "heavy")


class ByGroup(LoadScopeScheduling):
    """One group at a time is given to a process, the first ones first."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
