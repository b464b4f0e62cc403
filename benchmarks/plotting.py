"""The ratios as a plot."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Table

__all__ = ["plot"]


def plot(tables: list[Table], file: Path) -> None:
    """Write each contestant's ratio to the baseline of its row, with its spread."""
    from matplotlib.figure import Figure

    bars = [
        (f"{table.row}\n{series.contestant}", series.ratio(table.baseline, table.unit))
        for table in reversed(tables)
        for series in reversed(table.series[1:])
    ]
    figure = Figure(figsize=(8, 1 + 0.5 * len(bars)), layout="constrained")
    axes = figure.subplots()
    middles = [ratio.median for _, ratio in bars]
    # The ratio of the medians may lie outside of the rounds' ratios.
    lows = [max(0.0, ratio.median - ratio.low) for _, ratio in bars]
    highs = [max(0.0, ratio.high - ratio.median) for _, ratio in bars]
    axes.barh([name for name, _ in bars], middles, xerr=[lows, highs], capsize=3)
    axes.axvline(1.0, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel("ratio to the baseline of the same run")
    figure.savefig(file)
