"""The page about the API: its commands run, and its table has each request."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest
from support.api_hubs import ADMIN
from support.waiting import TIMEOUT

from arbprov.localhub.api.operations import list_operations

PAGE = (Path(__file__).parents[3] / "docs/reference/http-api.md").read_text()
BLOCKS = [
    block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if block.startswith("curl")
]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_each_command_of_the_page_is_answered(api):
    with api.serving() as url:
        environ = {**os.environ, "HUB": url, "TOKEN": ADMIN, "no_proxy": "127.0.0.1"}
        for block in BLOCKS:
            # Each answer on a line of its own.
            commands = block.replace("curl -sS", "curl -sS --fail-with-body -w '\\n'")
            done = subprocess.run(
                ["sh", "-euc", commands],
                env=environ,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            assert done.returncode == 0, done
            assert all(json.loads(line) for line in done.stdout.splitlines())
    assert len(api.all_tasks()) == 3


def test_the_table_of_requests_is_complete():
    listed = re.findall(r"^\| `([A-Z]+ /\S+)` \|", PAGE, re.MULTILINE)
    operations = [f"{one.method} {one.path}" for one in list_operations(Mock())]
    assert sorted(listed) == sorted(operations)
