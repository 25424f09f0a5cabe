"""A few papers in the layout of the CORD-19 dataset, made for the tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEADER = (
    "cord_uid,sha,source_x,title,doi,pmcid,pubmed_id,license,abstract,publish_time,authors,journal,mag_id,"
    "who_covidence_id,arxiv_id,pdf_json_files,pmc_json_files,url,s2_id"
)
COLUMNS = HEADER.split(",")


def parse(
    paper_id: str, *paragraphs: str, title: str = "", abstract: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """A file's content: as in pdf_json with an abstract, as in pmc_json without one."""
    made: dict[str, Any] = {"paper_id": paper_id, "metadata": {"title": title, "authors": [], **more}}
    if abstract is not None:
        made["abstract"] = [_paragraph(text, "Abstract") for text in abstract]
    return made | {
        "body_text": [_paragraph(text, "Introduction") for text in paragraphs],
        "bib_entries": {},
        "ref_entries": {},
        "back_matter": [],
    }


def _paragraph(text: str, section: str) -> dict[str, Any]:
    return {"text": text, "cite_spans": [], "ref_spans": [], "section": section}


def write_parse(dataset: Path, content: Mapping[str, Any]) -> Path:
    """As document_parses has it."""
    paper_id = content["paper_id"]
    pmc = paper_id.startswith("PMC")
    folder = dataset / "document_parses" / ("pmc_json" if pmc else "pdf_json")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{paper_id}.xml.json" if pmc else f"{paper_id}.json")
    path.write_text(json.dumps(content))
    return path


def write_metadata(dataset: Path, *rows: Mapping[str, str], columns: Sequence[str] = COLUMNS) -> Path:
    """metadata.csv; what a row does not say is empty."""
    path = dataset / "metadata.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path
