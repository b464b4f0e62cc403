"""A provider's reports to a hub that asks for them: the messages of `/arbprov.Providers/Report`.

Both sides use these classes: the provider writes them, and the bundled hub reads and checks them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import attrs

from arbprov._utils import MEBIBYTE
from arbprov.payload.json import parse_object
from arbprov.payload.validation import ValidationFailure

__all__ = [
    "MAX_ACTIONS",
    "MAX_LIMITS",
    "MAX_SIZE",
    "MAX_TEXT",
    "ActionReport",
    "LimitReport",
    "ProviderReport",
    "decode_report_answer",
    "encode_report",
    "write_actions",
    "write_report",
]

MAX_ACTIONS = 1_000
#: The most keys of limits of a report.
MAX_LIMITS = 200
#: Characters of any text.
MAX_TEXT = 1_000
#: Bytes of a report.
MAX_SIZE = MEBIBYTE + 64 * 1024
# Bytes of a report's actions, and of its limits. The rest is for what a report has besides.
_MAX_ACTIONS_SIZE = MEBIBYTE
_MAX_LIMITS_SIZE = 56 * 1024
_MAX_NUMBER = 1e15


def _check_text(value: str) -> None:
    if len(value) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters")
    if not value.isascii() and not _is_unicode(value):
        raise ValueError("a string with a lone surrogate is not Unicode text")


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_number(value: float | None) -> None:
    if value is not None and not 0 <= value <= _MAX_NUMBER:
        raise ValueError(f"must be from 0 to {_MAX_NUMBER:g}")


Text = Annotated[str, _check_text]
Count = Annotated[int, _check_number]
Amount = Annotated[float | None, _check_number]


@attrs.frozen(kw_only=True)
class ActionReport:
    """An action of a provider.

    Attributes:
        name: The action's name.
        description: The first sentence of its docstring; empty without one.
        payload_schema: The JSON Schema of its payload.
        account_schema: The JSON Schema of its account; None if it takes none.
        limits: Its limits as texts, such as ``5/minute``.
    """

    name: Text
    description: Text = ""
    payload_schema: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    account_schema: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    limits: tuple[Text, ...] = ()


@attrs.frozen(kw_only=True)
class LimitReport:
    """How a limit stands for one key.

    Attributes:
        action: The action; empty for a limit that several actions share.
        limit: The limit as text, such as ``5/minute``.
        key: The key's hash; empty for a limit without keys.
        account_key: The hub's key of an account that the limit counted last; empty if unknown.
        total: How many calls the limit admits; None if it has no such number.
        left: How many it would admit now; None if unknown.
        opens_in: Seconds until a closed gate opens; None while it is open. It is 0 while a single
            call tries whether the API admits calls again.
        closed_by: Who has closed it, in words; empty while it is open.
        waiting: How many tasks of the provider wait for it.
        owner: Its owner: ``app``, ``action:NAME``, ``blueprint:NAME`` or ``name:NAME``.
        by: What its key is, such as ``account.id``; empty for a limit without keys.
        next_in: Seconds until it admits another call; None if it does now.
        shadow: Whether it only counts, and refuses nothing.
    """

    action: Text
    limit: Text
    key: Text = ""
    account_key: Text = ""
    total: Amount = None
    left: Amount = None
    opens_in: Amount = None
    closed_by: Text = ""
    waiting: Count = 0
    owner: Text = ""
    by: Text = ""
    next_in: Amount = None
    shadow: bool = False


@attrs.frozen(kw_only=True)
class ProviderReport:
    """A process of a provider.

    Attributes:
        provider: The provider's name.
        process: A text that tells its processes apart.
        version: arbprov's version in it.
        slots: How many tasks it can run at once.
        free_slots: How many more it could begin now.
        actions: Its actions.
        limits: The state of the limits that have counted calls lately.
        actions_cut: How many actions are left out, since there are too many.
        schemas_cut: How many actions are without their schemas, since these are too large.
        limits_cut: How many keys of limits are left out.
    """

    provider: Text
    process: Text
    version: Text = ""
    slots: Count = 0
    free_slots: Count = 0
    actions: tuple[ActionReport, ...] = ()
    limits: tuple[LimitReport, ...] = ()
    actions_cut: Count = 0
    schemas_cut: Count = 0
    limits_cut: Count = 0


_DEFAULTS: dict[type, dict[str, Any]] = {
    cls: {
        field.name: {} if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
        for field in attrs.fields(cls)
    }
    for cls in (ActionReport, LimitReport)
}


def write_actions(actions: Iterable[ActionReport]) -> dict[str, bytes]:
    """Return the fields of a report that are about actions, as JSON by name.

    >>> write_actions([ActionReport(name="forecast")])["actions"]
    b'[{"name":"forecast"}]'
    """
    written: list[bytes] = []
    size = actions_cut = schemas_cut = 0
    for action in actions:
        try:
            encoded = _write(action)
        except (TypeError, ValueError):  # from a schema that another library has made
            encoded = b""
        lacks_schemas = not encoded or size + len(encoded) > _MAX_ACTIONS_SIZE
        if lacks_schemas:
            encoded = _write(attrs.evolve(action, payload_schema={}, account_schema=None))
        if size + len(encoded) > _MAX_ACTIONS_SIZE or len(written) == MAX_ACTIONS:
            actions_cut += 1
            continue
        schemas_cut += lacks_schemas
        written.append(encoded)
        size += len(encoded) + 1
    counts = {"actions_cut": b"%d" % actions_cut, "schemas_cut": b"%d" % schemas_cut}
    return {"actions": _write_list(written), **counts}


def write_report(report: ProviderReport, actions: Mapping[str, bytes]) -> bytes:
    """Return a report as a JSON object, without the provider's name and token.

    Args:
        report: The report; its actions are not looked at.
        actions: What `write_actions` has returned; empty for a report without actions.

    >>> write_report(ProviderReport(provider="weather", process="1", slots=8), {})
    b'{"process":"1","version":"","slots":8,"free_slots":0,"limits":[],"limits_cut":0}'
    """
    written: list[bytes] = []
    size = 0
    for limit in report.limits[:MAX_LIMITS]:
        encoded = _write(limit)
        size += len(encoded) + 1
        if size > _MAX_LIMITS_SIZE:
            break
        written.append(encoded)
    limits_cut = report.limits_cut + len(report.limits) - len(written)
    fields = {
        "process": _dump(report.process),
        "version": _dump(report.version),
        "slots": b"%d" % report.slots,
        "free_slots": b"%d" % report.free_slots,
        **actions,
        "limits": _write_list(written),
        "limits_cut": b"%d" % limits_cut,
    }
    return b"{%s}" % b",".join(b'"%s":%s' % (name.encode(), fields[name]) for name in fields)


def encode_report(auth_token: str, provider: str, fields: bytes) -> bytes:
    """Return the request to note a report.

    Args:
        auth_token: The provider's token.
        provider: The provider's name.
        fields: What `write_report` has returned.

    >>> encode_report("sample-token", "weather", b'{"process":"1"}')
    b'{"token":"sample-token","provider":"weather","process":"1"}'
    """
    return _dump({"token": auth_token, "provider": provider})[:-1] + b"," + fields[1:]


def decode_report_answer(message: bytes) -> bool:
    """Return whether the hub asks for the actions with the next report.

    Raises:
        ValueError: It is not an answer to a report.

    >>> decode_report_answer(b'{"wants_actions": true}'), decode_report_answer(b"{}")
    (True, False)
    """
    try:
        answer = parse_object(message)
    except ValidationFailure as failure:
        raise ValueError(str(failure.problems[0])) from None
    wants_actions = answer.get("wants_actions", False)
    if type(wants_actions) is not bool:
        raise ValueError("wants_actions is not true or false")
    return wants_actions


def _write(part: ActionReport | LimitReport) -> bytes:
    """Return a part of a report as JSON; fields that have their defaults are left out."""
    found = {
        name: value
        for name, default in _DEFAULTS[type(part)].items()
        if (value := getattr(part, name)) != default
    }
    return _dump(found)


def _write_list(items: Iterable[bytes]) -> bytes:
    return b"[%s]" % b",".join(items)


def _dump(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
