"""Every command, setting, figure, variable and option of the sources is named in docs/, and links resolve."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keymiss.api.settings import ApiSettings
from keymiss.typer_app import exit_code
from keymiss.worker.__main__ import app as worker

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCS = "\n".join(page.read_text() for page in PAGES)
NOT_SETTINGS = {"KEYMISS_API_"}
"""Stems of names that are made at run time; the names themselves are checked by the API's own fields."""


def sources(pattern: str) -> str:
    return "\n".join(path.read_text() for path in sorted(ROOT.glob(pattern)))


def is_named(name: str, text: str = DOCS) -> bool:
    """True when the name stands by itself: `jobs_done` does not document `done`."""
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) is not None


def missing(names: set[str], text: str = DOCS) -> list[str]:
    return sorted(name for name in names if not is_named(name, text))


def commands() -> set[str]:
    named = re.findall(r'\{"((?:km|rg|ai|AI)\.\w+)", \w+_command', sources("module/*.c"))
    return {name.lower() for name in named}


def figures() -> set[str]:
    info = (ROOT / "module/info.c").read_text()
    counters = (
        (ROOT / "module/core.h").read_text().partition("#define KM_COUNTERS")[2].partition("typedef")[0]
    )
    return set(re.findall(r'add\(arg, "(\w+)"', info)) | set(re.findall(r"X\((\w+),", counters))


def module_settings() -> set[str]:
    config = (ROOT / "module/config.c").read_text()
    names = re.findall(r'\{"([a-z-]+)", &km_config', config)
    names += re.findall(r'Register(?:Bool|String)Config\(ctx, "([a-z-]+)"', config)
    return {f"keymiss.{name}" for name in names}


def variables() -> set[str]:
    """KEYMISS_* in code: of Python every mention but prose about a family, of shell every use."""
    text = sources("keymiss/**/*.py") + sources("models/*.py") + sources("scripts/*.py") + sources("*.sh")
    text += sources("scripts/*.sh") + sources("tests/*.py")
    found = set(re.findall(r"\bKEYMISS_[A-Z0-9_]+", text)) - NOT_SETTINGS
    return found | {f"KEYMISS_API_{field.upper()}" for field in numbers(ApiSettings())}


def numbers(settings: ApiSettings) -> dict[str, float]:
    """Field -> its default, of those that are numbers."""
    return {name: value for name, value in settings if isinstance(value, int | float)}


def anchors(page: Path) -> set[str]:
    """GitHub's: lower case, punctuation gone, blanks to dashes."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M):
        found.add(re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-"))
    return found


def test_the_sources_are_read_at_all() -> None:
    """Else a change of form in them would make every test below pass without looking at anything."""
    assert {"km.miss", "km.pull", "rg.pyexecute", "ai.modelexecute", "km.stats"} <= commands()
    assert len(commands()) >= 26
    assert {"workers", "scripts", "filter_hits", "events_dropped"} <= figures()
    assert {"keymiss.cache", "keymiss.model-folder", "keymiss.queue-limit"} <= module_settings()
    assert {"KEYMISS_VAR", "KEYMISS_PIP_ARGS", "KEYMISS_API_RESCAN_S"} <= variables()


def test_every_command_has_a_heading() -> None:
    headings = "\n".join(re.findall(r"^### (.+)$", (ROOT / "docs/commands.md").read_text(), re.M))
    assert missing(commands(), headings) == []


def test_every_command_in_the_docs_exists() -> None:
    named = re.findall(r"^### ((?:KM|RG|AI)\.[A-Z_]+)", (ROOT / "docs/commands.md").read_text(), re.M)
    assert {name.lower() for name in named} - commands() == set()


def test_every_module_setting_is_documented() -> None:
    assert missing(module_settings()) == []


def test_module_settings_have_their_defaults_and_ranges() -> None:
    rows = re.findall(
        r'\{"([a-z-]+)", &km_config\.\w+, (\d+), (\d+), (\d+)\}', (ROOT / "module/config.c").read_text()
    )
    assert rows
    wrong = [
        name
        for name, default, low, high in rows
        if f"| `keymiss.{name}` | {default} | {low} to {high} |" not in DOCS
    ]
    assert wrong == []


def test_every_figure_of_info_is_documented() -> None:
    assert missing({f"`{name}`" for name in figures()}) == []


def test_every_environment_variable_is_documented() -> None:
    assert missing(variables()) == []


def test_api_settings_have_their_defaults() -> None:
    rows = numbers(ApiSettings())
    assert "time_limit_s" in rows
    wrong = [
        name
        for name, default in rows.items()
        if f"| `KEYMISS_API_{name.upper()}` | `{default}` |" not in DOCS
    ]
    assert wrong == []


def test_every_worker_option_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(worker, "worker", ["--help"]) == 0
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert "--job-threads" in options
    page = (ROOT / "docs/operations.md").read_text()
    assert sorted(option for option in options if f"| `{option}` |" not in page) == []


def test_every_name_a_function_can_use_is_documented() -> None:
    from keymiss.worker.functions.builder import GearsBuilder
    from keymiss.worker.functions.gears_api import script_globals
    from keymiss.worker.functions.redisai_api import MEMBERS

    names = set(script_globals()) | set(MEMBERS) - {"PyTensor"}
    names |= {name for name in vars(GearsBuilder) if not name.startswith("_")} - {"forEeach"}  # sic, an alias
    page = (ROOT / "docs/functions.md").read_text()
    assert missing(names - {"__name__"}, page) == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []
