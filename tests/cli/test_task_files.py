"""Tasks from a file: their results as they arrive, and the hub that keeps them."""

from __future__ import annotations

import json

from click.testing import CliRunner

from arbprov.cli.dev import dev
from arbprov.cli.task_files import Results, run_tasks
from arbprov.errors import ConfigurationError
from arbprov.localhub import LocalHub
from arbprov.localhub.submitting import read_result

SUCCESS = '{"message": "done", "data": {"response": {}}}'
TASKS = [{"action": "greet", "id": f"t{number}"} for number in range(50)]


def test_results_are_printed_in_the_order_in_which_they_arrive(capsys):
    async def run_all():
        """Act as a provider that has run all tasks when it sends the last one's result first."""
        for _ in TASKS:
            await hub._queue.take("weather", renews=False)
        for task in reversed(TASKS):
            await hub._queue.record(read_result(task["id"], "success", SUCCESS))

    steps = iter([lambda: hub._run(run_all)])
    with LocalHub() as hub:
        results = Results(len(TASKS), as_json=False)
        run_tasks(hub, TASKS, results, lambda: next(steps, str)() or "")
    printed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert printed == [task["id"] for task in reversed(TASKS)]


def test_the_hub_keeps_all_tasks_of_a_file(monkeypatch, tmp_path):
    asked = {}

    def note(target, **options):
        asked.update(options)
        raise ConfigurationError("no hub is needed")

    monkeypatch.setattr("arbprov.cli.dev.running_dev_hub", note)
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(map(json.dumps, TASKS)))
    CliRunner().invoke(dev, ["weather", "--tasks", str(path)])
    assert asked["capacity"] == 50
