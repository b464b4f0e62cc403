"""JSON data to typed values, strictly: one cattrs converter that casts nothing in silence.

Every problem of a value is collected, each with the path of what is wrong. No message holds
a piece of the value itself, since the value may be an account's secret.
"""

from arbprov.structuring.converter import make_converter
from arbprov.structuring.objects import field_names, takes_object

__all__ = ["field_names", "make_converter", "takes_object"]
