"""On the path of a process, it and its children have no uvloop and no orjson, installed or not."""

import sys

# What stands here as None can't be imported, and is not found.
sys.modules.update(dict.fromkeys(("uvloop", "orjson")))  # type: ignore[arg-type]
