"""Runs the snippets of the documents and the docstrings."""

from hypothesis import settings
from sybil import Sybil
from sybil.evaluators.doctest import NUMBER
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

pytest_plugins = ["pytester"]

# A machine may be slow; what an example does is what counts.
settings.register_profile("arbprov", deadline=None)
settings.load_profile("arbprov")

_documents = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=NUMBER), SkipParser()],
    patterns=["*.md"],
)
_docstrings = Sybil(parsers=[DocTestParser()], pattern="*.py", path="arbprov")


def pytest_collect_file(file_path, parent):
    for sybil in (_documents, _docstrings):
        if collected := sybil.pytest()(file_path, parent):
            return collected
    return None
