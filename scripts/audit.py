#!/usr/bin/env python3
"""What scripts/audit.sh runs in its own environment: cyclonedx-py for .venv, pip-audit for the lock files.

pip-audit calls what it could not ask about "skipped", and ends well when that is everything; not so here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "var" / "audit"
TOOLS = Path(sys.executable).parent
LIMIT_S = 600
NOTHING, FOUND, NOT_ASKED = 0, 1, 3
SHOWN = 5


@dataclass
class Asked:
    """Packages of one lock file, `name version`. `why`: what went wrong when none could be asked about."""

    lock: str
    clean: list[str] = field(default_factory=list)
    vulnerable: dict[str, list[str]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    why: str = ""

    @property
    def code(self) -> int:
        """The exit code that this asks for."""
        if self.vulnerable:
            return FOUND
        return NOT_ASKED if self.skipped or self.why else NOTHING

    def lines(self) -> list[str]:
        """What to say."""
        if self.why:
            return [f"{self.lock}: could not be asked about: {self.why}"]
        known = len(self.clean) + len(self.vulnerable)
        said = [f"{self.lock}: {known} packages asked about, {len(self.vulnerable)} of them vulnerable"]
        said += [f"  {name}: {', '.join(ids)}" for name, ids in self.vulnerable.items()]
        if self.skipped:
            more = f" and {len(self.skipped) - SHOWN} more" if len(self.skipped) > SHOWN else ""
            said.append(f"  NOT asked about, PyPI does not tell: {', '.join(self.skipped[:SHOWN])}{more}")
        return said


def read(lock: str, report: dict[str, Any]) -> Asked:
    """What pip-audit says in JSON."""
    asked = Asked(lock)
    for one in report["dependencies"]:
        if "skip_reason" in one:
            asked.skipped.append(one["name"])
        elif one["vulns"]:
            fixes = [
                each["id"]
                + (f" (fixed in {', '.join(each['fix_versions'])})" if each["fix_versions"] else "")
                for each in one["vulns"]
            ]
            asked.vulnerable[f"{one['name']} {one['version']}"] = fixes
        else:
            asked.clean.append(f"{one['name']} {one['version']}")
    return asked


def code_of(results: list[Asked]) -> int:
    """The exit code of all: what was found comes before what could not be asked about."""
    codes = {asked.code for asked in results}
    return next((code for code in (FOUND, NOT_ASKED) if code in codes), NOTHING)


def ask(lock: Path) -> Asked:
    """Asks about the versions in a lock file. A local build (torch's +cpu) counts as none."""
    plain = FOLDER / lock.name
    plain.write_text(re.sub(r"(?m)^(\S+==[^+\s]+)\+\S+", r"\1", lock.read_text()))
    tool = [str(TOOLS / "pip-audit"), "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*tool, "--format", "json", "-r", str(plain)], capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return Asked(lock.name, why=f"no answer within {LIMIT_S} s")
    finally:
        plain.unlink()
    try:
        return read(lock.name, json.loads(done.stdout))
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1]
        return Asked(lock.name, why=last)


def write_sbom(path: Path) -> int:
    """What is installed in .venv, as CycloneDX. Returns how many packages."""
    tool = [
        str(TOOLS / "cyclonedx-py"),
        "environment",
        "--output-reproducible",
        "--pyproject",
        "pyproject.toml",
    ]
    command = [*tool, "--of", "JSON", "-o", str(path), str(PROJECT / ".venv" / "bin" / "python")]
    subprocess.run(command, check=True, cwd=PROJECT, timeout=LIMIT_S, stderr=subprocess.DEVNULL)
    return len(json.loads(path.read_text())["components"])


def main() -> int:
    """Returns the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    sbom = FOLDER / "sbom.json"
    print(f"{write_sbom(sbom)} packages are installed: {sbom}", flush=True)
    results = []
    for lock in sorted(PROJECT.glob("requirements*.lock")):
        results.append(ask(lock))
        print("\n".join(results[-1].lines()), flush=True)
    code = code_of(results)
    print(
        {
            NOTHING: "No known vulnerability.",
            FOUND: "There are known vulnerabilities: see above.",
            NOT_ASKED: "NOT audited: the service of vulnerabilities could not be asked about all of it.",
        }[code]
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
