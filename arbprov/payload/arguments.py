"""BEGIN HERE: how the JSON of a task becomes a handler's arguments.

1. `json.parse_object` reads the payload and the account: bytes to dicts.
2. `compile_binding`, at registration, reads the types from the handler's signature or from its
   ``payload_schema=`` (`schema`). `converter` makes a structure hook for each type: a function that
   checks a JSON value and returns it as that type.
3. `Binding.bind`, for each task, calls these hooks and collects every problem, with its path.
4. The hooks come from `scalars`, `containers`, `unions`, `classes` and `models`.
5. On the way back, `serialize.to_builtins` and `json.dumps` make the handler's result JSON.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs
from cattrs import Converter

from arbprov._types import Handler
from arbprov._utils import describe_handler, unwrap_function
from arbprov.context import TaskContext, declares_state, is_context
from arbprov.errors import ConfigurationError, InvalidPayloadError, Problem
from arbprov.payload.classes import (
    accepts_object,
    field_names,
    has_property,
    held_fields,
    json_fields,
)
from arbprov.payload.constraints import check_default
from arbprov.payload.converter import make_converter
from arbprov.payload.ignored import IgnoredField, PayloadUse
from arbprov.payload.models import keeps_extra
from arbprov.payload.schema import compile_schema, is_schema
from arbprov.payload.structuring import StructureHook, find_hook, is_union, strip_annotation
from arbprov.payload.validation import (
    MISSING,
    Problems,
    ValidationFailure,
    add_unknown_fields,
    field_path,
    suggest_names,
)

__all__ = ["Arguments", "Binding", "compile_binding"]

Arguments = tuple[list[Any], dict[str, Any]]
# An error of a part of a task, and the part's path.
Failure = tuple[Exception, str]
# Adds the values of some parameters, by name, and the failures that it finds.
Source = Callable[[TaskContext, dict[str, Any], list[Failure]], None]

# Structures the whole payload or account of a task.
Structure = Callable[[TaskContext], Any]

_EMPTY = inspect.Parameter.empty
_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD
# An app has at most two converters; their caches are shared by its actions.
_converter = functools.cache(make_converter)


@attrs.frozen
class Binding:
    """How a handler gets its arguments.

    Attributes:
        use: The fields of a payload that it takes.
        account: The type of the account, by a parameter or a schema; NOTHING without either.
        forbids_account_extra: Whether an unknown field of the account is a problem.
        defaults: The default of each parameter that takes a field of the payload;
            `inspect.Parameter.empty` if the field is required.
        takes_state: Whether a parameter declares the type of the context's state.
    """

    use: PayloadUse
    account: Any
    forbids_account_extra: bool
    defaults: Mapping[str, Any]
    takes_state: bool
    _sources: list[Source]
    _positional: list[str]
    # Structures the whole payload or account, if a parameter or a schema asks for it.
    _payload_structure: Structure | None
    _account_structure: Structure | None

    @property
    def fields_of(self) -> set[str]:
        """The parts of a task, payload and account, whose fields `bind` may change."""
        parts = set()
        if self.defaults or self._payload_structure is not None:
            parts.add("payload")
        if self._account_structure is not None:
            parts.add("account")
        return parts

    def bind(self, ctx: TaskContext) -> Arguments:
        """Return the positional and the keyword arguments for a task.

        Raises:
            InvalidPayloadError: The payload or the account does not fit; it has every problem.
        """
        values: dict[str, Any] = {}
        failures: list[Failure] = []
        for source in self._sources:
            source(ctx, values, failures)
        if failures:
            problems = Problems()
            for error, path in failures:
                problems.add(error, path)
            listed = list(dict.fromkeys(problems.listed))
            count = problems.count - len(problems.listed) + len(listed)
            raise InvalidPayloadError(suggest_names(listed), count=count)
        return [values.pop(name) for name in self._positional], values

    def find_ignored(self, payload: Mapping[str, Any]) -> list[IgnoredField]:
        """Return the fields of a payload that nothing reads; none if they are problems.

        It takes longer than `bind`, and is meant for tests and terminals.
        """
        forbids_extra = self.use.converter.forbid_extra_keys
        return [] if forbids_extra else self.use.find_ignored(payload)

    def bound_payload(self, ctx: TaskContext, arguments: Arguments) -> dict[str, Any]:
        """Return the fields of the payload that `bind` has bound, with their defaults."""
        values = self._by_name(arguments)
        fields = {name: values.get(name, default) for name, default in self.defaults.items()}
        if self._payload_structure is None:
            return fields
        whole = values["payload"] if "payload" in values else self._payload_structure(ctx)
        return {**held_fields(whole), **fields}

    def bound_account(self, ctx: TaskContext, arguments: Arguments) -> Mapping[str, Any]:
        """Return the fields of the account that `bind` has bound, with their defaults."""
        if self._account_structure is None:
            return {}
        values = self._by_name(arguments)
        return held_fields(
            values["account"] if "account" in values else self._account_structure(ctx)
        )

    def _by_name(self, arguments: Arguments) -> dict[str, Any]:
        positional, values = arguments
        return {**values, **dict(zip(self._positional, positional, strict=True))}


def compile_binding(
    handler: Handler,
    *,
    payload_schema: Any = None,
    account_schema: Any = None,
    forbid_extra: bool = False,
    forbid_account_extra: bool = False,
) -> Binding:
    """Compile a handler's signature and schemas.

    Args:
        handler: The handler. A parameter takes the payload's field of its name; `payload` and
            `account` are the whole objects, and a parameter annotated with `TaskContext` gets it.
        payload_schema: A class, or a dict of types; it replaces the annotations.
        account_schema: The same for the account.
        forbid_extra: Whether a field of the payload that nothing takes is a problem.
        forbid_account_extra: The same for an account that has a type or a schema.

    Raises:
        ConfigurationError: A parameter can't be filled from a payload, an annotation can't be
            resolved, or a schema is invalid.
    """
    schemas = {"payload_schema": payload_schema, "account_schema": account_schema}
    compiled = {}
    for path, schema in schemas.items():
        try:
            compiled[path] = None if schema is None else compile_schema(schema, path)
        except ConfigurationError as error:
            raise ConfigurationError(f"{describe_handler(handler)}: {error}") from None
    compiler = _Compiler(
        handler,
        _converter(forbid_extra=forbid_extra),
        _converter(forbid_extra=forbid_account_extra),
    )
    return compiler.compile(**compiled)


class _Compiler:
    """Compiles the source of each parameter's value: the context, the account or the payload."""

    def __init__(
        self, handler: Handler, converter: Converter, account_converter: Converter
    ) -> None:
        self._handler = handler
        self._converter = converter
        self._account_converter = account_converter
        self._forbids_extra = converter.forbid_extra_keys
        # A payload does not replace arguments that functools.partial has bound.
        self._bound: set[str] = set()
        part: Any = handler
        while isinstance(part, functools.partial):
            self._bound |= part.keywords.keys()
            part = part.func
        self._parameters = {parameter.name: parameter for parameter in self._read_signature()}
        self._types = {name: self._resolve(p) for name, p in self._parameters.items()}
        self._contexts = [name for name, target in self._types.items() if is_context(target)]
        kinds = {name: p.kind for name, p in self._parameters.items()}
        self._positional = [name for name, kind in kinds.items() if kind is _POSITIONAL_ONLY]
        self._rest = next((name for name, kind in kinds.items() if kind is _VAR_KEYWORD), None)
        whole = ("payload", "account", self._rest, *self._contexts)
        self._fields = [name for name in self._parameters if name not in whole]

    def compile(self, payload_schema: Any, account_schema: Any) -> Binding:
        contexts = self._contexts

        def add_contexts(ctx: TaskContext, values: dict[str, Any], _: list[Failure]) -> None:
            for name in contexts:
                values[name] = ctx

        sources: list[Source] = [add_contexts] if contexts else []
        account_type = account_schema
        if account_schema is None:
            account_type = self._types["account"] if self._takes("account") else attrs.NOTHING
        account_structure = self._account_structure(account_type)
        if account_structure is not None:
            sources.append(self._account_source(account_structure))
        use = self._payload_use(payload_schema)
        sources += [self._schema_source(use)] if use.is_schema else self._payload_sources(use)
        payload_structure: Structure | None = None
        if use.whole is not attrs.NOTHING:
            payload_hook = self._payload_hook(use)
            payload_structure = lambda ctx: payload_hook(ctx.payload, use.whole)  # noqa: E731
        return Binding(
            use,
            account_type,
            self._account_converter.forbid_extra_keys,
            {name: self._parameters[name].default for name in self._fields},
            any(map(declares_state, self._types.values())),
            sources,
            self._positional,
            payload_structure,
            account_structure,
        )

    def _account_structure(self, account_type: Any) -> Structure | None:
        if account_type is attrs.NOTHING:
            return None
        hook = self._find_hook("account", account_type, self._account_converter)
        return lambda ctx: hook(ctx.account, account_type)

    def _account_source(self, structure: Structure) -> Source:
        is_taken = self._takes("account")

        def fill(ctx: TaskContext) -> dict[str, Any]:
            account = structure(ctx)
            return {"account": account} if is_taken else {}

        return _reporting_source(fill, "account")

    def _read_signature(self) -> list[inspect.Parameter]:
        try:
            parameters = list(inspect.signature(self._handler).parameters.values())
        except (TypeError, ValueError) as error:
            raise self._error(f"it has no signature to read: {error}") from None
        self._check_kind(parameters)
        parameters = [p for p in parameters if p.name not in self._bound]
        for parameter in parameters:
            if parameter.kind is _VAR_POSITIONAL:
                raise self._error(
                    f"no payload could fill *{parameter.name}, since the fields of a payload "
                    f"have names; take them by name, or the unknown ones as **extra"
                )
        return parameters

    def _check_kind(self, parameters: list[inspect.Parameter]) -> None:
        function = unwrap_function(self._handler)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise self._error(
                "it is a generator, and a task has one result; return a list instead of yielding"
            )
        owner = getattr(function, "__qualname__", "").rpartition(".")[0]
        in_class = owner and not owner.endswith("<locals>")
        if in_class and parameters and parameters[0].name in ("self", "cls"):
            raise self._error(
                f"its first parameter is {parameters[0].name!r}, which no payload could fill; "
                f"register the method of an object, as in app.action(service.method), or make it "
                f"a function"
            )

    def _resolve(self, parameter: inspect.Parameter) -> Any:
        """Return the type of a parameter, whose annotation may be a string."""
        if parameter.annotation is _EMPTY:
            return Any
        # A parameter at a time, so that the error can name it.
        holder = type("holder", (), {"__annotations__": {"it": parameter.annotation}})
        namespace = getattr(unwrap_function(self._handler), "__globals__", {})
        try:
            return typing.get_type_hints(holder, namespace, include_extras=True)["it"]
        except Exception as error:
            raise self._error(
                f"the annotation of {parameter.name!r} can't be resolved: {error}; define or "
                f"import it at the top of the module, not under `if TYPE_CHECKING`"
            ) from None

    def _takes(self, name: str) -> bool:
        return name in self._parameters and name not in self._contexts

    def _find_hook(
        self, name: str, target: Any, converter: Converter | None = None
    ) -> StructureHook:
        try:
            if name in self._parameters:
                check_default(self._parameters[name].default)
            return find_hook(target, converter or self._converter)
        except Exception as error:
            raise self._error(
                f"no payload could fill {name!r}: {error}; annotate it with a type that JSON has "
                f"a form for, such as an attrs class of such types"
            ) from None

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(f"{describe_handler(self._handler)}: {message}")

    def _payload_use(self, schema: Any) -> PayloadUse:
        types = self._types if schema is None else dict.fromkeys(self._types, Any)
        takes_whole = self._takes("payload")
        whole = types["payload"] if takes_whole else attrs.NOTHING
        return PayloadUse(
            fields={name: types[name] for name in self._fields},
            rest=attrs.NOTHING if self._rest is None else types[self._rest],
            reserved={*self._parameters, *self._bound} - {*self._fields},
            whole=whole if schema is None else schema,
            takes_whole=takes_whole,
            is_schema=schema is not None,
            converter=self._converter,
        )

    def _payload_hook(self, use: PayloadUse) -> StructureHook:
        """Return the structure hook of the whole payload.

        Where unknown fields are forbidden, it does not see the fields that other parameters take
        beside `payload`, or that ``**extra`` takes beside a schema whose dicts keep unknown fields.
        """
        target = use.whole
        hook = self._find_hook("payload", target)
        members = typing.get_args(target) if is_union(target) else [target]
        names = {name for member in members for name in json_fields(strip_annotation(member))}
        if not (self._forbids_extra and names):
            return hook

        def structure(value: dict[str, Any], _: Any) -> Any:
            others = {
                name: item
                for name, item in value.items()
                if name not in names and use.takes_beside_whole(name)
            }
            structured = hook(_without(value, others), target)
            return {**structured, **others} if isinstance(structured, dict) else structured

        return structure

    def _payload_sources(self, use: PayloadUse) -> list[Source]:
        sources = []
        if use.takes_whole:
            hook, target = self._payload_hook(use), use.whole
            sources.append(_reporting_source(lambda ctx: {"payload": hook(ctx.payload, target)}))
        if self._fields or not use.takes_whole:
            sources.append(self._fields_source(use))
        if self._rest is not None:
            names = {*use.fields, *use.reserved}
            rest_type = types.GenericAlias(dict, (str, self._types[self._rest]))
            rest_hook = self._find_hook(self._rest, rest_type)
            sources.append(
                _reporting_source(lambda ctx: rest_hook(_without(ctx.payload, names), rest_type))
            )
        return sources

    def _fields_source(self, use: PayloadUse) -> Source:
        fields = [
            (name, self._find_hook(name, target), target, self._parameters[name].default)
            for name, target in self._types.items()
            if name in self._fields
        ]
        forbids_extra = self._forbids_extra and not use.takes_whole
        known = self._fields

        def source(ctx: TaskContext, values: dict[str, Any], failures: list[Failure]) -> None:
            payload = ctx.payload
            for name, hook, target, default in fields:
                if name in payload:
                    try:
                        values[name] = hook(payload[name], target)
                    except Exception as error:
                        failures.append((error, field_path(name)))
                elif default is _EMPTY:
                    failures.append((ValidationFailure([Problem("", MISSING)]), field_path(name)))
                else:
                    values[name] = default
            if forbids_extra and (unknown := [n for n in payload if not use.takes(n)]):
                problems = Problems()
                add_unknown_fields(problems, unknown, known)
                failures.append((ValidationFailure(problems.listed, problems.count), ""))

        return source

    def _schema_source(self, use: PayloadUse) -> Source:
        hook, schema = self._payload_hook(use), use.whole
        if not accepts_object(schema):
            raise self._error("payload_schema fits no payload, since a payload is an object")
        known = field_names(schema)
        optional = {n for n in self._fields if self._parameters[n].default is not _EMPTY}
        wanted = [
            name
            for name in self._fields
            if known is None or name in known or has_property(schema, name) or keeps_extra(schema)
        ]
        if unfilled := [n for n in self._fields if n not in wanted and n not in optional]:
            raise self._error(
                f"no payload could fill {unfilled[0]!r}: it is not a field of payload_schema; "
                f"add it there, or give the parameter a default"
            )
        takes_payload, takes_rest = use.takes_whole, self._rest is not None
        parameters = {*use.fields, *use.reserved}

        # A dict schema sets an optional field that is missing to None; a parameter's default says
        # more than that.
        defaults_first = is_schema(schema)

        def fill(ctx: TaskContext) -> dict[str, Any]:
            structured = hook(ctx.payload, schema)
            fields = held_fields(structured, wanted)
            if missing := [n for n in wanted if n not in fields and n not in optional]:
                raise ValidationFailure([Problem(field_path(name), MISSING) for name in missing])
            values = {"payload": structured} if takes_payload else {}
            given = ctx.payload if defaults_first else fields
            for name in wanted:
                if name in given or name not in optional:
                    values[name] = fields[name]
            return {**values, **_without(fields, parameters)} if takes_rest else values

        return _reporting_source(fill)


def _reporting_source(fill: Callable[[TaskContext], dict[str, Any]], path: str = "") -> Source:
    """Return a source of the values that `fill` returns; its failure is reported under `path`."""

    def source(ctx: TaskContext, values: dict[str, Any], failures: list[Failure]) -> None:
        try:
            values.update(fill(ctx))
        except Exception as error:
            failures.append((error, path))

    return source


def _without(fields: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
