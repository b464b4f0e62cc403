"""Errors whose classes have code that raises more errors.

Not in a test's module: pytest would ask the classes for their attributes.
"""

from __future__ import annotations

import sys

from arbprov import RateLimited
from arbprov.errors import InvalidPayloadError


class Mute(Exception):
    """Raises an error that is not an `Exception`, when it is asked for its text."""

    ends_with: type[BaseException] = SystemExit

    def __str__(self):
        raise self.ends_with("no text")

    __repr__ = __str__


class Interrupting(Mute):
    ends_with = KeyboardInterrupt


class Foreign(Mute):
    ends_with = BaseException


class Runtime(Mute, RuntimeError):
    """Might be what Python makes of a StopIteration."""


class Disguised(Exception):
    """Raises when it is asked for its class."""

    @property
    def __class__(self):
        raise SystemExit("no class")


class Nameless(type):
    def __getattribute__(cls, name):
        raise SystemExit("no attributes")

    def __hash__(cls):
        raise SystemExit("no hash")


class OfOddClass(Exception, metaclass=Nameless):
    pass


class Bare(RateLimited):
    """Does not call the `__init__` of its base class."""

    def __init__(self):
        pass


class Spoilt(RateLimited):
    def __init__(self):
        super().__init__(5)
        self.retry_after, self.limit, self.details = "soon", object(), object()


class Dumb(InvalidPayloadError):
    def __init__(self):
        pass


class OddNotes(Exception):
    @property
    def __notes__(self):
        raise SystemExit("no notes")


class Unpicklable(Exception):
    @property
    def args(self):
        raise SystemExit("no args")

    def __reduce__(self):
        raise SystemExit("no reduce")


def grouped():
    return ExceptionGroup("g", [Mute(), ExceptionGroup("h", [Disguised()])])  # noqa: F821


def caused():
    error = ValueError("caused")
    error.__cause__, error.__context__ = Mute(), OfOddClass()
    return error


KINDS = {
    "Mute": Mute,
    "Interrupting": Interrupting,
    "Foreign": Foreign,
    "Runtime": Runtime,
    "Disguised": Disguised,
    "OfOddClass": OfOddClass,
    "Bare": Bare,
    "Spoilt": Spoilt,
    "Dumb": Dumb,
    "OddNotes": OddNotes,
    "Unpicklable": Unpicklable,
    "ValueError": caused,
}
"""What makes each error, by the name of its class."""

if sys.version_info >= (3, 11):

    class OddGroup(ExceptionGroup):  # noqa: F821
        """Has no errors when it is asked for them."""

        @property
        def exceptions(self):
            raise SystemExit("no errors")

    class EndlessGroup(ExceptionGroup):  # noqa: F821
        """Is in itself."""

        @property
        def exceptions(self):
            return [self, Bare()]

    KINDS["ExceptionGroup"] = grouped
    KINDS["OddGroup"] = lambda: OddGroup("g", [Mute()])
    KINDS["EndlessGroup"] = lambda: EndlessGroup("g", [Mute()])
