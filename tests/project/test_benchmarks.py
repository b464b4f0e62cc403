"""The benchmarks: their arithmetic, what they print, and one tiny run of a row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from benchmarks import contestants, hubs
from benchmarks.__main__ import main
from benchmarks.children import BenchmarkError, run_process
from benchmarks.figures import Goal, Sample, Series, Spread, Table, Unit
from benchmarks.printing import as_json, as_text
from benchmarks.rows import ROWS
from benchmarks.rows.throughput import ORDER
from benchmarks.running import Options, Row, measure_row, turns

SPEED = Unit("tasks/s")
COST = Unit("ms", digits=1, inverted=True)


def series(name, *values, **options):
    return Series(name, [Sample(value, **options) for value in values])


def table(*goals, unit=SPEED, own=(80, 90, 130), **options):
    contestants = [series("bare", 100, 100, 200), series("own", *own, **options)]
    return Table("row", "what it is", unit, contestants, goals)


def test_a_spread_is_the_median_and_the_range():
    assert series("own", 3, 1, 10).spread == Spread(3, 1, 10)


def test_a_ratio_is_of_the_medians_with_the_range_of_the_rounds():
    measured = table()
    assert measured.series[1].ratio(measured.baseline, SPEED) == Spread(0.9, 0.65, 0.9)


def test_a_ratio_of_costs_compares_speeds():
    measured = table(unit=COST, own=(200, 200, 200))
    assert measured.series[1].ratio(measured.baseline, COST).median == 0.5


def test_a_ratio_to_0_is_nan():
    assert str(series("own", 1).ratio(series("bare", 0), SPEED).median) == "nan"


def test_a_round_whose_baseline_is_0_has_no_ratio():
    ratio = series("own", 1, 2, 3).ratio(series("bare", 0, 1, 2), SPEED)
    assert ratio == Spread(2.0, 1.5, 2.0)


def test_extras_are_medians_too():
    samples = [Sample(0, {"ms": value}) for value in (3, 1, 10)]
    assert Series("own", samples).extras == {"ms": 3}


@pytest.mark.parametrize(
    ("goal", "figure", "reached"),
    [
        (Goal("own", ">=", 0.9), 0.9, True),
        (Goal("own", ">=", 0.91), 0.9, False),
        (Goal("own", "<=", 90, of="value"), 90, True),
        (Goal("own", "<=", 89, of="value"), 90, False),
        (Goal("own", "<=", -10, of="difference"), -10, True),
        (Goal("own", "<=", -11, of="difference"), -10, False),
        (Goal("own", "<=", 3, of="value", extra="p50"), 4, False),
        (Goal("own", "<=", 4, of="value", extra="p50"), 4, True),
    ],
)
def test_a_goal_is_reached_from_its_bound_on(goal, figure, reached):
    measured = table(goal, extras={"p50": 4})
    assert (goal.figure(measured), goal.is_reached(measured)) == (figure, reached)


def test_the_text_has_median_range_ratio_and_verdict():
    lines = as_text(table(Goal("own", ">=", 0.85))).splitlines()
    assert lines[0] == "row: what it is"
    assert lines[3].split() == ["own", "90", "80", "…", "130", "0.90", "0.65", "…", "0.90"]
    assert lines[4] == "  goal: own: >= 0.85 of bare: reached (0.9)"


def test_the_text_has_no_ratio_to_0():
    contestants = [series("bare", 0, 0), series("own", 1, 2)]
    line = as_text(Table("row", "what it is", SPEED, contestants, ())).splitlines()[3]
    assert line.split() == ["own", "2", "1", "…", "2", "-"]


def test_the_text_says_that_a_goal_is_not_reached():
    assert "<= 80 tasks/s: NOT reached (90)" in as_text(table(Goal("own", "<=", 80, of="value")))


def test_a_problem_makes_a_row_invalid_and_judges_no_goal():
    broken = table(Goal("own", ">=", 0.85), problem="2 results repeated")
    assert "INVALID: own: 2 results repeated" in as_text(broken)
    assert "not judged" in as_text(broken)
    assert as_json([broken], {})["rows"][0]["goals"][0]["reached"] is False


def test_the_json_has_all_values():
    (row,) = as_json([table(Goal("own", ">=", 0.95))], {"cores": 2})["rows"]
    assert row["contestants"][1]["values"] == [80, 90, 130]
    assert row["contestants"][1]["ratio"] == {"median": 0.9, "low": 0.65, "high": 0.9}
    assert row["goals"] == [{"goal": "own: >= 0.95 of bare", "figure": 0.9, "reached": False}]


def test_a_ratio_to_0_is_null_in_json():
    contestants = [series("bare", 0, 0), series("own", 1, 1)]
    (row,) = as_json([Table("row", "what it is", SPEED, contestants)], {})["rows"]
    assert row["contestants"][1]["ratio"] == {"median": None, "low": None, "high": None}


def test_the_order_of_the_turns_alternates():
    assert [turns("ABC", number) for number in (0, 1)] == [["A", "B", "C"], ["C", "B", "A"]]


def test_a_row_is_measured_once_for_each_round():
    take = lambda options, number: {"bare": Sample(1), "own": Sample(number)}
    row = Row("row", "what it is", lambda hub: SPEED, ("bare", "own"), take)
    found = measure_row(row, Options(hubs.bundled_hub(), rounds=3))
    assert [[sample.value for sample in s.samples] for s in found.series] == [[1, 1, 1], [0, 1, 2]]


def test_a_row_that_can_t_be_measured_has_a_reason():
    row = attrs.evolve(ROWS["echo-async"], missing=lambda: "there is no moon")
    found = measure_row(row, Options(hubs.bundled_hub()))
    assert as_text(found).endswith("not measured: there is no moon")
    assert as_json([found], {})["rows"][0]["missing"] == "there is no moon"


def test_the_typed_payload_has_a_kilobyte():
    assert 1000 <= len(ORDER) <= 1100


def test_the_goals_are_about_contestants_of_their_rows():
    assert [
        (row.name, goal.contestant)
        for row in ROWS.values()
        for goal in row.goals
        if goal.contestant not in row.contestants
    ] == []


def test_the_page_names_every_row():
    page = (Path(hubs.__file__).parent / "README.md").read_text()
    assert [name for name in ROWS if f"`{name}`" not in page] == []


def test_core_rows_can_t_import_an_extra(tmp_path, monkeypatch):
    (tmp_path / "orjson.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def exit_code(core_only):
        command = [sys.executable, "-c", "import orjson"]
        environ = contestants.environ(core_only=core_only)
        return subprocess.run(command, env=environ, capture_output=True).returncode

    assert (exit_code(core_only=False), exit_code(core_only=True)) == (0, 1)


def test_a_contestant_gets_no_settings_from_outside(monkeypatch):
    monkeypatch.setenv("ARBPROV_SPOOL", "spool")
    assert "ARBPROV_SPOOL" not in contestants.environ()


def test_a_contestant_keeps_its_bytecode(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in contestants.environ()


def test_the_error_of_an_ended_contestant_has_the_end_of_its_log(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('the moon is gone')"]
    with (
        run_process(command, {}, tmp_path / "log") as child,
        pytest.raises(BenchmarkError, match=r"ended with 1\nthe moon is gone"),
    ):
        child.hear(60)


def test_the_hub_reports_wrong_results(tmp_path):
    (tmp_path / "odd.py").write_text(
        "from arbprov import ProviderApp, ProviderResponse\n"
        "app = ProviderApp('odd')\n"
        "@app.action\n"
        "def odd():\n"
        "    return ProviderResponse('warning')\n"
        "app.run()\n"
    )
    odd = contestants.Contestant("odd", (str(tmp_path / "odd.py"),), in_flight=4)
    with contestants.on_stage(hubs.bundled_hub(), odd, hubs.Work("odd"), hold=0.05) as stage:
        stage.run(3)
        assert stage.wrong() == "3 results failed"


@pytest.mark.slow
def test_a_tiny_row_runs_from_end_to_end(tmp_path):
    file = tmp_path / "figures.json"
    options = ["--rounds", "1", "--tasks", "200", "--hub", "bundled", "--json", str(file)]
    result = CliRunner().invoke(main, ["echo-async", *options], catch_exceptions=False)
    (row,) = json.loads(file.read_text())["rows"]
    assert result.exit_code == 0
    assert row["unit"] == "µs of CPU per task"
    assert row["problems"] == []
    contestants = row["contestants"]
    assert [contestant["contestant"] for contestant in contestants] == ["bare loop", "arbprov"]
    assert all(contestant["extras"]["tasks/s"] > 0 for contestant in contestants)
    assert "goal: arbprov: >= 0.85 of bare loop" in result.stdout


@pytest.mark.slow
def test_a_tiny_row_of_pick_ups_runs_from_end_to_end(tmp_path):
    file = tmp_path / "figures.json"
    options = ["--rounds=1", "--tasks=2", "--idle=0.02", "--hub=bundled", f"--json={file}"]
    CliRunner().invoke(main, ["pickup-long-poll", *options], catch_exceptions=False)
    (row,) = json.loads(file.read_text())["rows"]
    assert row["problems"] == []
    assert all(contestant["median"] >= 0 for contestant in row["contestants"])


def test_the_list_has_every_row():
    result = CliRunner().invoke(main, ["--list"])
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(ROWS)
