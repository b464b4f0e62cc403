"""Runs the snippets of the documents and the docstrings."""

import os
import sys
from importlib.util import find_spec

from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.evaluators.doctest import NUMBER
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

pytest_plugins = ["pytester"]

# Nearly the same examples in each run, so that a red test is due to a change: Hypothesis also tries
# constants of the modules that are loaded, and these depend on the tests before.
# HYPOTHESIS_PROFILE=nightly searches for new examples. No time is limited, since a machine may be
# slow.
settings.register_profile(
    "fixed",
    deadline=None,
    derandomize=True,
    stateful_step_count=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly", settings.get_profile("fixed"), derandomize=False, max_examples=2_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

_documents = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=NUMBER), SkipParser()],
    patterns=["*.md"],
)
# It needs Python 3.11.
_missing = [] if find_spec("httpx2") else ["http/httpx2.py"]
_docstrings = Sybil(parsers=[DocTestParser()], pattern="*.py", path="arbprov", excludes=_missing)


def pytest_collect_file(file_path, parent):
    for sybil in (_documents, _docstrings):
        if collected := sybil.pytest()(file_path, parent):
            return collected
    return None


_started = {}


def pytest_runtest_setup(item):
    # A snippet that is run alone needs the snippets above it.
    if isinstance(item, SybilItem):
        document = item.example.document
        started = _started.setdefault(document, set())
        for example in document.examples():
            if example.start < item.example.start and example.start not in started:
                started.add(example.start)
                example.evaluate()
        started.add(item.example.start)


def pytest_sessionfinish():
    """Save what coverage has measured: a process that is slow to end is killed before it does."""
    coverage = sys.modules.get("coverage")
    if coverage is not None and (measured := coverage.Coverage.current()) is not None:
        measured.save()
