"""The log: what sets it up, its handler and formats, and the lines about tasks.

Start in `setup`. Names that logs and their readers depend on are in `json_lines`.
"""

from arbprov.logs.current import current_task
from arbprov.logs.handler import BatchingHandler
from arbprov.logs.setup import ensure_handler, flush_log
from arbprov.logs.task_lines import TaskLog, log_failure

__all__ = [
    "BatchingHandler",
    "TaskLog",
    "current_task",
    "ensure_handler",
    "flush_log",
    "log_failure",
]
