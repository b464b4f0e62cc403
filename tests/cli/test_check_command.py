"""`arbprov check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re

import pytest

PROVIDER = """
import contextlib
import attrs
from arbprov import ProviderApp, TaskContext

app = ProviderApp("vendor")

@attrs.define
class Account:
    token: str = "none"

@app.lifespan
@contextlib.contextmanager
def connect():
    yield "the client"

@app.check
def reachable(ctx: TaskContext[str]):
    assert ctx.state == "the client"

@app.check
async def credentials(account: Account):
    if account.token != "right-token":
        raise PermissionError(f"the vendor refuses {account.token}")
"""


@pytest.fixture
def vendor(folder):
    (folder / "other.py").write_text(PROVIDER)


def test_each_check_has_a_line(arbprov, vendor):
    result = arbprov("check", "other", "--account", '{"token": "right-token"}')
    lines = [re.split(r" {2,}", line) for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["ok", "reachable"], ["ok", "credentials"]]
    assert all(re.fullmatch(r"\d+\.\d ms", line[2]) for line in lines)
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_check_that_failed_says_why_without_secrets(arbprov, vendor, folder):
    (folder / "account.json").write_text('{"token": "wrong-token"}')
    result = arbprov("check", "other", "--account", "@account.json")
    last = result.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"failed  credentials +\S+ ms  PermissionError: the vendor refuses \[redacted\]", last
    )
    assert result.exit_code == 1


def test_the_results_are_printed_as_json(arbprov, vendor):
    result = arbprov("check", "other", "--json")
    first, second = json.loads(result.stdout)
    assert isinstance(first.pop("seconds"), float)
    assert first == {"ok": True, "name": "reachable", "reason": ""}
    assert second["reason"] == "PermissionError: the vendor refuses none"
    assert result.exit_code == 1


def test_a_provider_without_checks_is_wrongly_configured(arbprov):
    result = arbprov("check", "typed")
    assert (result.exit_code, result.stdout) == (78, "")
    assert "has no checks; decorate a function with @app.check" in result.stderr


def test_a_wrong_configuration_is_exit_code_78(arbprov, vendor, folder):
    (folder / "other.py").write_text(PROVIDER.replace("@contextlib.contextmanager\n", ""))
    assert arbprov("check", "other").exit_code == 78


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["other", "--account", "7"]])
def test_wrong_usage_is_exit_code_2(arbprov, vendor, arguments):
    assert arbprov("check", *arguments).exit_code == 2
