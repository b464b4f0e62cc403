"""From a task to a handler's arguments, as its signature says.

The signature is compiled once, at registration, to the hooks by which cattrs structures what the
parameters take from the payload.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from cattrs import Converter

from arbprov._types import Handler
from arbprov._utils import describe_handler, unwrap_function
from arbprov.context import TaskContext
from arbprov.errors import ConfigurationError, InvalidPayloadError, Problem
from arbprov.payload.common import Hook, hook_of
from arbprov.payload.converter import make_converter
from arbprov.payload.objects import field_names, takes_object
from arbprov.payload.schema import compile_schema
from arbprov.payload.validation import MISSING, ValidationFailure, field_path, unknown_fields

__all__ = ["Arguments", "Binding", "compile_binding"]

Arguments = tuple[list[Any], dict[str, Any]]
# Adds what it takes from the task to the values, by parameter, and what is wrong to the problems.
Source = Callable[[TaskContext, dict[str, Any], list[Problem]], None]

Structure = Callable[[Any], Any]

_EMPTY = inspect.Parameter.empty
_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD
# Few providers need both.
_converter = functools.cache(make_converter)


@attrs.frozen
class Binding:
    """How one handler gets its arguments."""

    _sources: list[Source]
    _positional: list[str]

    def bind(self, ctx: TaskContext) -> Arguments:
        """Return the positional and the keyword arguments for a task.

        Raises:
            InvalidPayloadError: The payload or the account does not fit; it has every problem.
        """
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for source in self._sources:
            source(ctx, values, problems)
        if problems:
            raise InvalidPayloadError(list(dict.fromkeys(problems)))
        return [values.pop(name) for name in self._positional], values


def compile_binding(
    handler: Handler,
    *,
    payload_schema: Any = None,
    account_schema: Any = None,
    forbid_extra: bool = False,
) -> Binding:
    """Compile a handler's signature and schemas.

    Args:
        handler: The function; parameters take the payload's fields of their names, except for
            `payload`, `account` and whatever is annotated with `TaskContext`.
        payload_schema: A class, or a dict of types; it then stands for the annotations.
        account_schema: The same for the account.
        forbid_extra: Whether a field that nobody asked for is a problem.

    Raises:
        ConfigurationError: A parameter that no payload could fill, an annotation that can't be
            resolved, a schema that is none.
    """
    return _Compiler(handler, _converter(forbid_extra=forbid_extra)).compile(
        _schema(handler, payload_schema, "payload_schema"),
        _schema(handler, account_schema, "account_schema"),
    )


def _schema(handler: Handler, written: Any, path: str) -> Any:
    try:
        return None if written is None else compile_schema(written, path)
    except ConfigurationError as error:
        raise ConfigurationError(f"{describe_handler(handler)}: {error}") from None


class _Compiler:
    """Sorts a handler's parameters by where their values come from."""

    def __init__(self, handler: Handler, converter: Converter) -> None:
        self.handler = handler
        self.converter = converter
        self.parameters = {p.name: p for p in self._signature()}
        self.types = {name: self._annotation(p) for name, p in self.parameters.items()}
        self.contexts = [name for name, target in self.types.items() if _is_context(target)]
        self.fields = [name for name, p in self.parameters.items() if self._is_field(p)]
        self.rest = next((n for n, p in self.parameters.items() if p.kind is _VAR_KEYWORD), None)

    def compile(self, payload_schema: Any, account_schema: Any) -> Binding:
        sources = [_context_source(name) for name in self.contexts]
        sources += self._account_sources(account_schema)
        if payload_schema is None:
            sources += self._payload_sources()
        else:
            sources.append(self._schema_source(payload_schema))
        kinds = self.parameters.items()
        return Binding(sources, [name for name, p in kinds if p.kind is _POSITIONAL_ONLY])

    def _signature(self) -> list[inspect.Parameter]:
        try:
            parameters = list(inspect.signature(self.handler).parameters.values())
        except (TypeError, ValueError) as error:
            raise self._error(f"it has no signature to read: {error}") from None
        for parameter in parameters:
            if parameter.kind is _VAR_POSITIONAL:
                raise self._error(
                    f"no payload could fill *{parameter.name}, since the fields of a payload "
                    f"have names; take them by name, or the unknown ones as **extra"
                )
        return parameters

    def _annotation(self, parameter: inspect.Parameter) -> Any:
        if parameter.annotation is _EMPTY:
            return Any
        # One parameter at a time, so that the error can name it.
        holder = type("holder", (), {"__annotations__": {"it": parameter.annotation}})
        namespace = getattr(unwrap_function(self.handler), "__globals__", {})
        try:
            return typing.get_type_hints(holder, namespace, include_extras=True)["it"]
        except Exception as error:
            raise self._error(
                f"the annotation of {parameter.name!r} can't be resolved: {error}; define or "
                f"import it at the top of the module, not under `if TYPE_CHECKING`"
            ) from None

    def _is_field(self, parameter: inspect.Parameter) -> bool:
        reserved = parameter.name in ("payload", "account", *self.contexts)
        return not reserved and parameter.kind is not _VAR_KEYWORD

    def _takes_whole(self, name: str) -> bool:
        return name in self.parameters and name not in self.contexts

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(f"{describe_handler(self.handler)}: {message}")

    def _hook(self, name: str, target: Any) -> Hook:
        try:
            return hook_of(target, self.converter)
        except Exception as error:
            raise self._error(
                f"no payload could fill {name!r}: {error}; annotate it with a type that JSON has "
                f"a form for, such as an attrs class of such types"
            ) from None

    def _structure(self, name: str, target: Any) -> Structure:
        hook = self._hook(name, target)
        return lambda value: hook(value, target)

    def _account_sources(self, schema: Any) -> list[Source]:
        wanted = self._takes_whole("account")
        if schema is None and not wanted:
            return []
        target = self.types["account"] if schema is None else schema
        return [_account_source(self._structure("account", target), wanted)]

    def _payload_sources(self) -> list[Source]:
        sources = []
        whole = self._takes_whole("payload")
        if whole:
            sources.append(_payload_source(self._structure("payload", self.types["payload"])))
        if self.fields or not whole:
            sources.append(self._fields_source(takes_all=whole or self.rest is not None))
        if self.rest is not None:
            sources.append(self._rest_source(self.rest))
        return sources

    def _fields_source(self, takes_all: bool) -> Source:
        fields = [self._field(name) for name in self.fields]
        forbids = self.converter.forbid_extra_keys and not takes_all
        known = self.fields

        def source(ctx: TaskContext, values: dict[str, Any], problems: list[Problem]) -> None:
            payload = ctx.payload
            for name, hook, target, default in fields:
                if name in payload:
                    try:
                        values[name] = hook(payload[name], target)
                    except Exception as error:
                        problems += ValidationFailure.of(error).below(field_path(name))
                elif default is _EMPTY:
                    problems.append(Problem(field_path(name), MISSING))
                else:
                    values[name] = default
            if forbids:
                problems += unknown_fields(payload, known)

        return source

    def _field(self, name: str) -> tuple[str, Hook, Any, Any]:
        target = self.types[name]
        return name, self._hook(name, target), target, self.parameters[name].default

    def _rest_source(self, rest: str) -> Source:
        structure = self._structure(rest, types.GenericAlias(dict, (str, self.types[rest])))
        names = set(self.parameters)

        def source(ctx: TaskContext, values: dict[str, Any]) -> None:
            values.update(structure({n: v for n, v in ctx.payload.items() if n not in names}))

        return _reporting(source)

    def _schema_source(self, schema: Any) -> Source:
        structure = self._structure("payload", schema)
        if not takes_object(schema):
            raise self._error("payload_schema fits no payload, since a payload is an object")
        known = field_names(schema)
        self._check_fields(known)
        whole, rest, names = self._takes_whole("payload"), self.rest, set(self.parameters)
        wanted = [name for name in self.fields if known is None or name in known]
        optional = {n for n in wanted if self.parameters[n].default is not _EMPTY}

        def source(ctx: TaskContext, values: dict[str, Any]) -> None:
            structured = structure(ctx.payload)
            fields = _as_mapping(structured, ctx.payload if known is None else known)
            if missing := [n for n in wanted if n not in fields and n not in optional]:
                raise ValidationFailure([Problem(field_path(name), MISSING) for name in missing])
            if whole:
                values["payload"] = structured
            for name in wanted:
                if name in ctx.payload or name not in optional:
                    values[name] = fields[name]
            if rest:
                values.update({n: v for n, v in fields.items() if n not in names})

        return _reporting(source)

    def _check_fields(self, known: list[str] | None) -> None:
        for name in self.fields:
            if known is not None and name not in known and self.parameters[name].default is _EMPTY:
                raise self._error(
                    f"no payload could fill {name!r}: it is no field of payload_schema; "
                    f"add it there, or give the parameter a default"
                )


def _is_context(target: Any) -> bool:
    return TaskContext in (target, *typing.get_args(target))


def _as_mapping(structured: Any, names: Iterable[str]) -> Mapping[str, Any]:
    if isinstance(structured, Mapping):
        return structured
    return {name: getattr(structured, name) for name in names if hasattr(structured, name)}


def _reporting(source: Callable[[TaskContext, dict[str, Any]], None], path: str = "") -> Source:
    """Have `source` report what does not fit, so that the other sources report theirs as well."""

    def reporting(ctx: TaskContext, values: dict[str, Any], problems: list[Problem]) -> None:
        try:
            source(ctx, values)
        except Exception as error:
            problems += ValidationFailure.of(error).below(path)

    return reporting


def _context_source(name: str) -> Source:
    def source(ctx: TaskContext, values: dict[str, Any], problems: list[Problem]) -> None:
        values[name] = ctx

    return source


def _payload_source(structure: Structure) -> Source:
    def source(ctx: TaskContext, values: dict[str, Any]) -> None:
        values["payload"] = structure(ctx.payload)

    return _reporting(source)


def _account_source(structure: Structure, wanted: bool) -> Source:
    def source(ctx: TaskContext, values: dict[str, Any]) -> None:
        account = structure(ctx.account)
        if wanted:
            values["account"] = account

    return _reporting(source, "account")
