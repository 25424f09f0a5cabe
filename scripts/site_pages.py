"""A hook of mkdocs (mkdocs.yml): pages that lie elsewhere in the project are in the site too, and it loads
nothing from another host."""

from __future__ import annotations

import os.path
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "gears/README.md": "gears.md",
    "models/reader/README.md": "reader-card.md",
    "models/split-reader/README.md": "split-reader-card.md",
    "models/encoder/README.md": "encoder-card.md",
}
"""File of the project -> page of the site."""

SOURCES = {page: source for source, page in ELSEWHERE.items()}
LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
ADDRESS = r"""=["']?(?:https?:)?//[^>]*"""
FROM_ANOTHER_HOST = re.compile(
    rf"<(?:script|img|iframe)\b[^>]*\ssrc{ADDRESS}|<link\b[^>]*stylesheet[^>]*href{ADDRESS}"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """A link to a file of the project becomes one to its page; its text only, if it has none."""
    source = SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        file = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if file in ELSEWHERE:
            return f"[{text}]({ELSEWHERE[file]}{anchor})"
        if file.startswith("docs/"):
            here = os.path.dirname(page.file.src_uri) or "."
            return f"[{text}]({os.path.relpath(file.removeprefix('docs/'), here)}{anchor})"
        return text if (ROOT / file).exists() else found[0]

    return LINK.sub(link, markdown)


def on_post_page(output: str, page: Page, **_: object) -> str:
    """PluginError for a page that would load something from another host."""
    if found := FROM_ANOTHER_HOST.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from another host: {found[0]}")
    return output
