"""Fuzzes tasks and handlers as tests/system/test_fuzz.py does, guided by code coverage.

It needs `pip install atheris`, takes what to fuzz and then libFuzzer's options, and ends at the
first thing that is wrong:

    python tests/system/fuzz_with_atheris.py answers -max_total_time=600
    python tests/system/fuzz_with_atheris.py handlers -max_total_time=600
"""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["arbprov"]):
    import test_fuzz

TARGETS = {
    "answers": test_fuzz.test_whatever_the_hub_sends_each_task_has_one_result,
    "handlers": test_fuzz.test_whatever_a_handler_does_its_task_has_one_result,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(__doc__)
    logging.getLogger("arbprov").setLevel(logging.CRITICAL)
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.hypothesis.fuzz_one_input)
    atheris.Fuzz()
