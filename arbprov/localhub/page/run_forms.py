"""The form that runs an action: what it shows, and the task that it stands for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from arbprov.errors import Problem
from arbprov.localhub.page.accounts import short_key
from arbprov.localhub.page.form_fields import Field, can_show, make_fields
from arbprov.localhub.page.form_values import parse_json_field, read_value
from arbprov.localhub.page.requests import Form, field
from arbprov.localhub.page.schema_parts import MISSING, Schema
from arbprov.localhub.reports import ActionReport
from arbprov.localhub.submitting import make_task
from arbprov.localhub.tasks import NewTask, StoredTask
from arbprov.payload.json import parse_value
from arbprov.payload.validation import ValidationFailure, json_kind

__all__ = [
    "Entered",
    "RunForm",
    "enter_task",
    "make_run_form",
    "read_entered",
    "switch_mode",
    "to_task",
]

_PAYLOAD = "payload"
_ACCOUNT = "account"
_MAX_DELAY = 1e9


@attrs.frozen(kw_only=True)
class Entered:
    """What a person has entered.

    Attributes:
        mode: ``form`` for a field for each value, ``json`` for the payload as JSON.
        payload: The payload; `MISSING` if it is not JSON.
        payload_text: The payload's JSON as it was written.
        account: The account; `MISSING` for none.
        account_text: The account's JSON as it was written.
        account_from: The id of the task whose account is used if none is entered.
        provider: The provider that must run the task.
        priority: The priority, as text.
        delay: The seconds until it may start, as text.
        problems: Its problems.
    """

    mode: str = "form"
    payload: Any = MISSING
    payload_text: str = ""
    account: Any = MISSING
    account_text: str = ""
    account_from: str = ""
    provider: str = ""
    priority: str = ""
    delay: str = ""
    problems: tuple[Problem, ...] = ()


@attrs.frozen(kw_only=True)
class RunForm:
    """The form.

    Attributes:
        entered: The entered values.
        payload: The fields of the payload; None to ask for JSON.
        account: The fields of the account; None to ask for JSON.
        has_fields: Whether there are fields for the payload, which the person may not want.
        takes_account: Whether the action is known to take an account.
        account_key: The beginning of the key of the account that is used if none is entered.
        messages: The problems of each path.
        others: The problems that no field shows.
    """

    entered: Entered
    payload: Field | None
    account: Field | None
    has_fields: bool
    takes_account: bool
    account_key: str
    messages: Mapping[str, list[str]]
    others: list[Problem]


def enter_task(
    report: ActionReport | None, task: StoredTask, problems: Sequence[Problem]
) -> Entered:
    """Return the form of a task, to be changed and run again; its account is not shown."""
    try:
        payload = parse_value(task.payload)
        text = json.dumps(payload, indent=2, ensure_ascii=False)
    except ValidationFailure:
        payload, text = MISSING, task.payload.decode(errors="replace")
    shows = report is not None and can_show(report.payload_schema, payload)
    return Entered(
        mode="form" if shows else "json",
        payload=payload,
        payload_text=text,
        account_from=task.id if task.account else "",
        provider=task.provider,
        priority=str(task.priority or ""),
        problems=tuple(problems),
    )


def read_entered(form: Form, report: ActionReport | None) -> Entered:
    """Return the values that were sent.

    Args:
        form: The form's fields.
        report: The latest report of the action; None without a report.
    """
    problems: list[Problem] = []
    mode = "form" if field(form, "mode") == "form" and _has_fields(report) else "json"
    payload_text, account_text = field(form, "payload_text"), field(form, "account_text")
    if mode == "form" and report is not None:
        payload, problems = read_value(report.payload_schema, form, _PAYLOAD, "")
        payload_text = _to_text(payload)
    else:
        payload = _read_json(payload_text or "{}", "", problems)
    account: Any = MISSING
    if (schema := _account_schema(report)) is not None:
        account, found = read_value(schema, form, _ACCOUNT, _ACCOUNT)
        problems += found
        account = account or MISSING
    elif account_text.strip():
        account = _read_json(account_text, _ACCOUNT, problems)
    return Entered(
        mode=mode,
        payload=payload,
        payload_text=payload_text,
        account=account,
        account_text=account_text,
        account_from=field(form, "account_from"),
        provider=field(form, "provider").strip(),
        priority=field(form, "priority").strip(),
        delay=field(form, "delay").strip(),
        problems=tuple(problems),
    )


def switch_mode(entered: Entered, report: ActionReport | None) -> Entered:
    """Return the same as JSON, or as fields unless they would lose a part of it."""
    if entered.problems:
        return entered
    if entered.mode == "form":
        return attrs.evolve(entered, mode="json")
    if report is not None and can_show(report.payload_schema, entered.payload):
        return attrs.evolve(entered, mode="form")
    problem = Problem("", "the fields can't show all of this payload; edit it as JSON")
    return attrs.evolve(entered, problems=(problem,))


def to_task(action: str, entered: Entered, like: StoredTask | None) -> NewTask:
    """Return the task to submit.

    Args:
        action: The action's name.
        entered: The entered values.
        like: The task whose account is used if none is entered.

    Raises:
        ValidationFailure: Something that was entered is not valid.
    """
    if entered.problems:
        raise ValidationFailure(list(entered.problems))
    account: Any = None if entered.account is MISSING else entered.account
    account_key = ""
    if account is None and like is not None:
        account, account_key = like.account or None, like.account_key
    delay = _read_number(entered.delay, "delay", _MAX_DELAY)
    try:
        return make_task(
            action,
            entered.payload,
            account=account,
            account_key=account_key,
            provider=entered.provider,
            priority=int(_read_number(entered.priority, "priority", 1_000)),
            not_before=time.time() + delay if delay > 0 else None,
        )
    except ValueError as error:
        raise ValidationFailure.from_error(error) from None


def make_run_form(
    report: ActionReport | None, entered: Entered, like: StoredTask | None
) -> RunForm:
    """Return the form with what was entered, and the problems beside their fields.

    Args:
        report: The latest report of the action; None without a report.
        entered: The entered values.
        like: The task whose account is used if none is entered.
    """
    payload = account = None
    if entered.mode == "form" and report is not None and _has_fields(report):
        value = entered.payload
        payload = make_fields(report.payload_schema, value, _PAYLOAD, "", entered.problems)
    if (schema := _account_schema(report)) is not None:
        account = make_fields(schema, entered.account, _ACCOUNT, _ACCOUNT, entered.problems)
    messages: dict[str, list[str]] = {}
    for problem in entered.problems:
        messages.setdefault(problem.path, []).append(problem.message)
    shown = {*_paths(payload), *_paths(account), "priority", "delay"}
    return RunForm(
        entered=entered,
        payload=payload,
        account=account,
        has_fields=_has_fields(report),
        takes_account=report is None or report.account_schema is not None,
        account_key="" if like is None else short_key(like.account_key),
        messages=messages,
        others=[problem for problem in entered.problems if problem.path not in shown],
    )


def _has_fields(report: ActionReport | None) -> bool:
    return report is not None and bool(report.payload_schema.get("properties"))


def _account_schema(report: ActionReport | None) -> Schema | None:
    schema = None if report is None else report.account_schema
    return schema if schema and schema.get("properties") else None


def _paths(one: Field | None) -> set[str]:
    """Return the paths of the fields in a field, which show their problems."""
    children = () if one is None else one.children
    return {child.path for child in children}.union(*map(_paths, children))


def _to_text(value: Any) -> str:
    return "" if value is MISSING else json.dumps(value, indent=2, ensure_ascii=False)


def _read_json(text: str, path: str, problems: list[Problem]) -> Any:
    """Return an object; else `MISSING`, with a problem more."""
    try:
        value = parse_json_field(text, path)
    except ValidationFailure as failure:
        problems.extend(failure.problems)
        return MISSING
    if isinstance(value, dict):
        return value
    problems.append(Problem(path, f"expected an object, got {json_kind(value)}"))
    return MISSING


def _read_number(text: str, path: str, highest: float) -> float:
    if not text:
        return 0.0
    try:
        number = float(text)
    except ValueError:
        number = highest * 2
    if not -highest <= number <= highest:
        raise ValidationFailure(
            [Problem(path, f"expected a number from -{highest:,.0f} to {highest:,.0f}")]
        )
    return number
