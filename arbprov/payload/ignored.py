"""The fields of a payload that nothing reads, such as a field whose name is misspelt.

Structure hooks pass over unknown fields. Here, a payload is compared with the types that it
becomes. Only the test client, `app.invoke` and ``arbprov dev`` ask for it: a worker's tasks do not
pay for it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
from cattrs import Converter
from typing_extensions import NotRequired, ReadOnly, Required

from arbprov._utils import suggest_name
from arbprov.payload.classes import accepts_object, has_fields, is_typeddict, json_fields
from arbprov.payload.containers import is_array, is_mapping
from arbprov.payload.models import reads_raw_fields, reshapes_value, root_type, unknown_fields_rule
from arbprov.payload.schema import is_schema
from arbprov.payload.structuring import (
    HookFactory,
    StructureHook,
    find_hook,
    is_union,
    origin_class,
    strip_annotation,
)
from arbprov.payload.validation import Problems, field_path, join_paths, unknown_field

__all__ = [
    "IgnoredField",
    "PayloadUse",
    "make_forbidding",
]

# The way to a part of a payload: names of fields, and indexes of arrays.
Steps = tuple[str | int, ...]
# Ignored fields, each with the names of the fields that its object may have.
Ignored = dict[Steps, Collection[str]]


@attrs.frozen
class IgnoredField:
    """A field of a payload that nothing reads.

    >>> str(IgnoredField(("places", 0, "ctiy"), ["city", "zip"]))
    "places[0].ctiy; did you mean 'city'?"
    """

    steps: Steps
    known: Collection[str]

    @property
    def path(self) -> str:
        """Where the field is."""
        return _join(self.steps)

    @property
    def suggestion(self) -> str:
        """The end of a message, with the name that may be meant; empty if no name is near."""
        return suggest_name(str(self.steps[-1]), self.known)

    def __str__(self) -> str:
        return self.path + self.suggestion


@attrs.frozen
class PayloadUse:
    """The fields of a payload that an action takes.

    Args:
        fields: The types of the fields that parameters take.
        rest: The type of each field that ``**extra`` takes; NOTHING without such a parameter.
        reserved: The names of fields that ``**extra`` does not take.
        whole: The type of the whole payload, by a parameter or a schema; NOTHING without either.
        takes_whole: Whether a parameter takes the whole payload.
        is_schema: Whether `whole` is a schema.
        converter: Has the hooks of the types.
    """

    fields: Mapping[str, Any]
    rest: Any
    reserved: Collection[str]
    whole: Any
    takes_whole: bool
    is_schema: bool
    converter: Converter

    def takes(self, name: str) -> bool:
        """Tell whether a parameter of its name takes a field, or ``**extra`` does."""
        return name in self.fields or (self.rest is not attrs.NOTHING and name not in self.reserved)

    @property
    def is_by_name(self) -> bool:
        """Whether it takes each of `fields` by its name, and nothing else."""
        return self.rest is attrs.NOTHING and self.whole is attrs.NOTHING

    def takes_beside_whole(self, name: str) -> bool:
        """Tell whether a parameter takes a field that `whole` may not have.

        Beside a schema, ``**extra`` takes the unknown fields that the schema's dicts keep.
        """
        if not self.is_schema:
            return self.takes(name)
        keeps_unknown = is_schema(self.whole) or is_typeddict(self.whole)
        return keeps_unknown and name not in self.fields and self.takes(name)

    def find_ignored(self, payload: Mapping[str, Any]) -> list[IgnoredField]:
        """Return the fields of a payload that the action ignores."""
        finder = _Finder(self.converter)
        takes_rest = self.rest is not attrs.NOTHING
        # A schema that takes any field leaves the choice to the parameters.
        takes_any = is_mapping(self.whole) or self.whole in (Any, object)
        by_schema = self.is_schema and not takes_any
        readers: list[Ignored] = []
        if self.takes_whole or by_schema:
            readers.append(finder.find(payload, self.whole))
        if by_schema:
            for steps in [steps for steps in readers[0] if len(steps) == 1]:
                if self.takes_beside_whole(str(steps[0])):
                    del readers[0][steps]
        elif self.fields or takes_rest or not self.takes_whole:
            ignored: Ignored = {}
            for name, value in payload.items():
                if self.takes(name):
                    ignored |= _prefix(name, finder.find(value, self.fields.get(name, self.rest)))
                else:
                    ignored[name,] = self.fields
            readers.append(ignored)
        return [IgnoredField(*entry) for entry in _ignored_by_all(readers).items()]


def _prefix(step: str | int, ignored: Ignored) -> Ignored:
    return {(step, *steps): known for steps, known in ignored.items()}


def _ignored_by_all(found: Sequence[Ignored]) -> Ignored:
    """Return the fields that each of several readers of a value ignores."""
    common, *others = found
    for other in others:
        common = {
            steps: [*common.get(steps, ()), *other.get(steps, ())]
            for steps in (common | other)
            if _is_inside(steps, common) and _is_inside(steps, other)
        }
    return common


def _is_inside(steps: Steps, ignored: Ignored) -> bool:
    return any(steps[:end] in ignored for end in range(1, len(steps) + 1))


def make_forbidding(factory: HookFactory, lenient: Converter) -> HookFactory:
    """Return a factory of hooks for models whose unknown fields are problems.

    The models' own libraries ignore such fields. A model that asks for that itself is obeyed.

    Args:
        factory: The factory of hooks that ignore unknown fields.
        lenient: A converter whose hooks ignore unknown fields.
    """

    def make_hook(target: Any, converter: Converter) -> StructureHook:
        hook = factory(target, converter)

        def structure(value: Any, _: Any) -> Any:
            structured, problems = None, Problems()
            try:
                structured = hook(value, target)
            except Exception as error:
                problems.add(error)
            ignored = _Finder(lenient, obey_models=True).find(value, target)
            for steps, known in ignored.items():
                problems.append(unknown_field(str(steps[-1]), known, _join(steps)))
            problems.check()
            return structured

        return structure

    return make_hook


# The type inside annotations, the fields that it reads, and its rule for unknown fields.
_Known = tuple[Any, "dict[str, Any] | None", "str | None"]


@attrs.define
class _Finder:
    """Finds ignored fields in the parts of a value.

    Args:
        converter: Has the hooks that find the member of a union.
        obey_models: Whether to skip the fields of models that ask for ``extra="ignore"``.
    """

    _converter: Converter
    _obey_models: bool = False
    # By the type's id, since `date | str` equals `str | date`; the type is kept, and so is its id.
    _known: dict[int, tuple[Any, _Known]] = attrs.field(factory=dict)

    def find(self, value: Any, target: Any) -> Ignored:
        """Return the fields inside a value that are ignored when it becomes a type.

        Parts of the value that do not fit are skipped.
        """
        if not isinstance(value, (dict, list)):
            return {}
        if id(target) not in self._known:
            inner = _strip(target)
            self._known[id(target)] = (
                target,
                (inner, _read_fields(inner), unknown_fields_rule(inner)),
            )
        inner, fields, rule = self._known[id(target)][1]
        if is_union(inner):
            return self._find_in_union(value, typing.get_args(inner))
        ignored: Ignored = {}
        # With "forbid", the model itself refuses the field.
        if rule is None or (rule == "ignore" and not self._obey_models):
            names = value if isinstance(value, dict) and fields is not None else ()
            ignored = {(name,): fields or () for name in names if name not in (fields or ())}
        for step, part, kind in _parts(value, inner, fields):
            ignored |= _prefix(step, self.find(part, kind))
        return ignored

    def _find_in_union(self, value: Any, members: Sequence[Any]) -> Ignored:
        """Return the fields ignored by the member of a union that an object or array becomes.

        If it fits no member, the fields are ignored that no member reads.
        """
        is_object = isinstance(value, dict)
        best, most_known = None, -1
        possible = []
        for member in members:
            inner = _strip(member)
            if not (accepts_object(inner) if is_object else is_array(inner)):
                continue
            possible.append(member)
            known = len(value.keys() & (_read_fields(inner) or {})) if is_object else 0
            try:
                find_hook(member, self._converter)(value, member)
            except Exception:  # noqa: S112 - it does not fit, or pydantic alone knows the type
                continue
            if known > most_known:
                best, most_known = member, known
        chosen = possible if best is None else [best]
        found = [self.find(value, member) for member in chosen]
        return _ignored_by_all(found) if found else {}


def _strip(target: Any) -> Any:
    """Return the type inside qualifiers, annotations and models that hold a single value.

    It is Any if a validator may read another form of the value.
    """
    while True:
        if origin_class(target) in (Required, NotRequired, ReadOnly):
            target = typing.get_args(target)[0]
        elif isinstance(target, dataclasses.InitVar):
            target = target.type
        elif any(map(reshapes_value, getattr(target, "__metadata__", ()))):
            return Any
        elif (inner := strip_annotation(target)) is not target:
            target = inner
        elif (root := root_type(target)) is not None:
            target = root
        else:
            return target


def _read_fields(target: Any) -> dict[str, Any] | None:
    """Return the types of the fields that a type reads; None if it reads any, or has no fields."""
    if not has_fields(target) or reads_raw_fields(target):
        return None
    try:
        return json_fields(target)
    except NameError:  # pydantic finds names in a function, too, where a class is defined
        return None


def _parts(
    value: dict[str, Any] | list[Any], target: Any, fields: dict[str, Any] | None
) -> Iterator[tuple[str | int, Any, Any]]:
    """Yield the parts of a value that a type reads: the step to it, the part, and its type."""
    arguments = typing.get_args(target)
    if isinstance(value, dict):
        if fields is None and is_mapping(target) and arguments:
            fields = dict.fromkeys(value, arguments[-1])
        for name, kind in (fields or {}).items():
            if name in value:
                yield name, value[name], kind
    elif is_array(target) and arguments:
        is_fixed = origin_class(target) is tuple and Ellipsis not in arguments
        kinds = arguments if is_fixed else arguments[:1] * len(value)
        for index, (item, kind) in enumerate(zip(value, kinds, strict=False)):
            yield index, item, kind


def _join(steps: Steps) -> str:
    path = ""
    for step in steps:
        path = join_paths(path, f"[{step}]" if isinstance(step, int) else field_path(step))
    return path
