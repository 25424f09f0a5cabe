"""scripts/audit.py: what was not asked about is not called clean."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from tests.servers import REPO


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_script", REPO / "scripts" / "audit.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


CLEAN = {"name": "rich", "version": "15.0.0", "vulns": []}
SKIPPED = {"name": "redis", "skip_reason": "Dependency not found on PyPI and could not be audited"}
VULNERABLE = {
    "name": "jinja2",
    "version": "2.11.2",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.11.3"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


def test_what_is_said_and_the_exit_code(audit: ModuleType) -> None:
    clean = audit.read("a.lock", {"dependencies": [CLEAN]})
    assert clean.lines() == ["a.lock: 1 packages asked about, 0 of them vulnerable"]
    skipped = audit.read("b.lock", {"dependencies": [CLEAN, SKIPPED]})
    assert skipped.lines()[1] == "  NOT asked about, PyPI does not tell: redis"
    found = audit.read("c.lock", {"dependencies": [CLEAN, SKIPPED, VULNERABLE]})
    assert "  jinja2 2.11.2: PYSEC-1 (fixed in 2.11.3), PYSEC-2" in found.lines()
    lost = audit.Asked("d.lock", why="no answer")
    assert [audit.code_of(each) for each in ([clean], [clean, skipped], [lost], [found, lost])] == [
        0,
        3,
        3,
        1,
    ]
