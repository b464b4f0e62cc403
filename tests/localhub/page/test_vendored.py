"""What others have written and this package ships is what its text file says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from support.browsers import unpack

from arbprov.localhub import page

STATIC = Path(page.__file__).parent / "static"
TEXT = (STATIC / "VENDORED.txt").read_text()


def test_the_file_is_the_one_that_the_text_names():
    digest = hashlib.sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest()
    assert f"SHA-256: {digest}\n" in TEXT


@pytest.mark.browser
def test_the_file_and_its_licence_are_those_of_the_package(tmp_path):
    version = re.search(r"htmx.org, version ([\d.]+), unchanged", TEXT)[1]
    package = unpack(f"htmx.org@{version}", tmp_path)
    assert (package / "dist/htmx.min.js").read_bytes() == (STATIC / "htmx.min.js").read_bytes()
    assert TEXT.endswith((package / "LICENSE").read_text())
