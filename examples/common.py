"""What the examples share: a progress bar, two plots, the report of a training step, options."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINES = 10  # how often a training reports where there is no terminal to draw a bar on


class Steps:
    """The steps of a training, shown while they run.

        for step in Steps(1000, "training", loss=lambda: sess.run(loss, check)):
            sess.run(train, feeds)

    On a terminal that is a bar with the latest values and the rate; elsewhere, `LINES` plain lines.
    A value is fetched twice a second at most, so showing it costs little.
    """

    def __init__(self, count: int, label: str, **values: Callable[[], float]) -> None:
        self.count = count
        self.label = label
        self.seconds = 0.0
        self._values = values

    def __iter__(self) -> Iterator[int]:
        started = time.perf_counter()
        console = Console()
        run = self._bar(console) if console.is_terminal else self._lines()
        yield from run
        self.seconds = time.perf_counter() - started

    def _text(self, done: int, seconds: float) -> str:
        values = "  ".join(f"{name} {float(get()):.4f}" for name, get in self._values.items())
        return f"{values}  {done / max(seconds, 1e-9):,.0f} it/s".strip()

    def _bar(self, console: Console) -> Iterator[int]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(self.label, total=self.count, text="")
            started = shown = time.perf_counter()
            for step in range(self.count):
                yield step
                now = time.perf_counter()
                if now - shown > 0.5 or step + 1 == self.count:
                    text = self._text(step + 1, now - started)
                    progress.update(task, completed=step + 1, text=text)
                    shown = now

    def _lines(self) -> Iterator[int]:
        every = max(1, -(-self.count // LINES))
        started = time.perf_counter()
        for step in range(self.count):
            yield step
            done = step + 1
            if done % every == 0 or done == self.count:
                text = self._text(done, time.perf_counter() - started)
                print(f"{self.label}  {done:>{len(str(self.count))}}/{self.count}  {text}")
                sys.stdout.flush()


def options(description: str | None, **settings: tuple[Any, str]) -> argparse.Namespace:
    """Read a program's options: for each a default, whose type it has, and what it does."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, (default, text) in settings.items():
        flag = f"--{name.replace('_', '-')}"
        text = f"{text} (default: {default})"
        parser.add_argument(flag, type=type(default), default=default, help=text)
    return parser.parse_args()


def report_step(sess: Any, train: Any, feeds: dict[Any, Any]) -> None:
    """Print what one training step is compiled to, and that no part of it runs in Python."""
    cost = sess.cost_analysis(train, feeds)
    print(
        f"training step: {cost.kernels} kernels, {cost.host_calls} host calls, "
        f"{cost.flops / 1e6:,.2f} MFLOP, {cost.bytes / 1e6:,.2f} MB"
    )


def accuracy_in_parts(
    sess: Any, correct: Any, feeds: Callable[[Any, Any], dict[Any, Any]], data: Any, size: int
) -> float:
    """The share of a data set that `correct` (a count of hits) finds, `size` examples at a time."""
    hits = 0.0
    for start in range(0, data.num_examples, size):
        part = slice(start, start + size)
        hits += float(sess.run(correct, feeds(data.images[part], data.labels[part])))
    return hits / data.num_examples


def _axes(title: str, x_label: str, y_label: str) -> tuple[Any, Any]:
    """A figure for a file (no window is opened) and its axes."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit("plots need matplotlib: pip install 'flowc[examples]'") from error
    figure = Figure(figsize=(6.4, 4.4), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}")


def fit_plot(path: Path, x: Any, y: Any, slope: float, intercept: float) -> None:
    """Draw samples and the line that was fitted to them."""
    figure, axes = _axes(f"y = {slope:.3f} x + {intercept:.3f}", "x", "y")
    axes.plot(x, y, ".", markersize=4, alpha=0.5, label="samples")
    ends = np.array([np.min(x), np.max(x)])
    axes.plot(ends, slope * ends + intercept, linewidth=2, label="fit")
    axes.legend()
    _save(figure, path)


def bowl_plot(path: Path, x: Any, y: Any, steps: Sequence[tuple[float, float]]) -> None:
    """Draw the mean squared error over slope and intercept, and the way that the descent took."""
    way = np.asarray(steps, dtype=float)
    centre = way[-1]
    reach = 1.15 * max(float(np.abs(way - centre).max()), 0.1)
    slopes = np.linspace(centre[0] - reach, centre[0] + reach, 121)
    intercepts = np.linspace(centre[1] - reach, centre[1] + reach, 121)
    w, b = np.meshgrid(slopes, intercepts)
    # mean (w x + b − y)², expanded so that the grid needs no third dimension
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    loss = w**2 * np.mean(x * x) + b**2 + np.mean(y * y)
    loss += 2 * w * b * np.mean(x) - 2 * w * np.mean(x * y) - 2 * b * np.mean(y)
    figure, axes = _axes("The loss, and the way down", "W", "b")
    levels = np.geomspace(max(float(loss.min()), 1e-4), float(loss.max()), 16)
    axes.contourf(w, b, loss, levels=levels, norm="log", cmap="viridis", extend="min")
    axes.plot(way[:, 0], way[:, 1], "o-", color="white", markersize=2, linewidth=1)
    axes.plot(*way[0], "o", color="tab:red", label="start")
    axes.plot(*way[-1], "*", color="tab:orange", markersize=12, label="end")
    axes.legend()
    _save(figure, path)
