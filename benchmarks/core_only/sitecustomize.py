"""Hides uvloop and orjson from each process that has this folder on its path."""

import sys

# A module that is None here can't be imported.
sys.modules.update(dict.fromkeys(("uvloop", "orjson")))  # type: ignore[arg-type]
