"""The plot library kept with the page is the published one."""

from __future__ import annotations

import re
from hashlib import sha256

from tests.servers import REPO

LIB = REPO / "nginx" / "page" / "lib"


def test_the_files_are_those_of_the_readme() -> None:
    said = dict(re.findall(r"\| `([\w.]+)` \| `([0-9a-f]{64})` \|", (LIB / "README.md").read_text()))
    kept = {
        file.name: sha256(file.read_bytes()).hexdigest() for file in LIB.iterdir() if file.name != "README.md"
    }
    assert said == kept
    assert "uPlot.iife.min.js" in kept


def test_the_version_is_that_of_the_readme() -> None:
    (version,) = re.findall(r"uPlot ([\d.]+), MIT", (LIB / "README.md").read_text())
    assert f"(v{version})" in (LIB / "uPlot.iife.min.js").read_text()[:200]
    assert f"uplot-{version}.tgz" in (LIB / "README.md").read_text()
