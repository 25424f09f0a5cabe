"""A whole run: the systems that are started, the sections in their order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout

from keymiss.models.export import Source
from keymiss.models.export_reader import exported_files
from keymiss.models.fastest_form import fastest_form
from keymiss.models.forms import DEFAULT_FORM
from scripts.benchmarks import misses
from scripts.benchmarks.corpora import article_files
from scripts.benchmarks.figures import Results
from scripts.benchmarks.free_misses import free_misses
from scripts.benchmarks.front_door import Way, alternatives, cached, cold, fresh
from scripts.benchmarks.full_size import full_size
from scripts.benchmarks.growth import growth
from scripts.benchmarks.hits import hits
from scripts.benchmarks.ingest import ingest
from scripts.benchmarks.machine import about_this_machine
from scripts.benchmarks.memory_use import memory
from scripts.benchmarks.options import QUICK, Options
from scripts.benchmarks.questions import new_questions
from scripts.benchmarks.readers import ReadingProcess
from scripts.benchmarks.system import System

FLOAT32 = DEFAULT_FORM
WITH_A_SYSTEM = (
    *("memory", "fresh", "alternatives", "cached", "distinct", "coalesced", "original", "saturated"),
)


def file_of(model: str, form: str) -> str:
    """The model's file alone, or both halves of a split one ("lower,upper"); made if they are not there."""
    with redirect_stdout(sys.stderr):
        return ",".join(map(str, exported_files(model, form)))


def run(options: Options, kept: Callable[[Results, str], None]) -> Results:
    """All sections; `kept` is called after each."""
    form = options.form or fastest_form(Source(options.model))
    results = Results(machine=about_this_machine(), options=_said(options, form))
    questions = new_questions()
    for name, section in (("hits", hits), ("free", free_misses)):
        if options.wants(name):
            section(results, options)
            kept(results, name)
    if options.wants(*WITH_A_SYSTEM):
        _whole_system(results, options, form, questions, kept)
    if options.wants("ingest"):
        ingest(results, options)
        kept(results, "ingest")
    if options.wants("growth"):
        with ReadingProcess("raw", file_of(options.model, form)) as raw:
            growth(results, options, questions, raw, kept)
    if options.large:
        full_size(results, options, questions)
        kept(results, "large")
    return results


def _said(options: Options, form: str) -> dict[str, object]:
    return {
        "sections": sorted(options.sections),
        "rounds": options.size.rounds,
        "questions": options.size.questions,
        "quick": options.size.seconds == QUICK.seconds,
        "model": options.model,
        "form": form,
        "masters": options.masters,
        "replicas": options.replicas,
        "articles": len(article_files(options.articles)),
    }


def _whole_system(
    results: Results,
    options: Options,
    form: str,
    questions: Iterator[str],
    kept: Callable[[Results, str], None],
) -> None:
    with ExitStack() as stack:
        system = stack.enter_context(
            System(options.masters, options.replicas, model=options.model, form=form)
        )
        system.load_articles(article_files(options.articles))
        first = next(questions)
        system.ask(first)
        if options.wants("memory"):
            memory(results, options, system)
            kept(results, "memory")
        raw = stack.enter_context(ReadingProcess("raw", file_of(options.model, form)))
        if options.wants("fresh", "alternatives"):
            with ExitStack() as others:  # they end before anything else is measured
                ways: list[Way] = []
                if options.wants("alternatives"):
                    float32, int8 = (file_of(options.whole_model, one) for one in ("onnx", "onnx-int8"))
                    ways = alternatives(options, float32, int8, others)
                    sentences = system.sentences_read(first)
                    for way in ways:  # that are there then: to start takes all cores for seconds
                        way.process.ms(first, sentences)
                usual_ms = fresh(results, options, system, questions, form, raw, ways, stages=True)
            if ways:
                cold(results, options, system, questions, ways, usual_ms)
            kept(results, "fresh")
        for name, section in (("coalesced", misses.coalesced), ("original", misses.original)):
            if options.wants(name):
                section(results, options, system)
                kept(results, name)
        if options.wants("cached"):
            cached(results, options, system, questions)
            kept(results, "cached")
        if options.wants("distinct"):
            misses.distinct(results, options, system, form, raw)
            kept(results, "distinct")
        if options.wants("saturated"):
            misses.saturated(results, options, system)
            kept(results, "saturated")
        if form != FLOAT32 and options.wants("fresh", "distinct"):
            _in_float32(results, options, system, questions)
            kept(results, "float32")


def _in_float32(results: Results, options: Options, system: System, questions: Iterator[str]) -> None:
    """The same system with the reader in another form."""
    system.load_model(form=FLOAT32)
    system.ask(next(questions))
    with ReadingProcess("raw", file_of(options.model, FLOAT32)) as raw:
        if options.wants("fresh"):
            fresh(results, options, system, questions, FLOAT32, raw, (), stages=False)
        if options.wants("distinct"):
            misses.distinct(results, options, system, FLOAT32, raw)
