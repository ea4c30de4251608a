"""Progress of a run on the terminal: epoch, loss, metric, cost and units left, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from nasdsl.compiler.measures import lookup
from nasdsl.runtime.watch import Progress
from nasdsl.terminal import amount, printable


def describe(facts: Mapping[str, Any]) -> str:
    """What is known at a step, in one line."""
    parts = []
    for name, value in facts.items():
        if name == "epoch":
            parts.append(f"epoch {value:.1f}")
        elif name == "loss":
            parts.append(f"loss {value:.3f}")
        elif (measure := lookup(name)) is not None:
            parts.append(f"{amount(value)} {measure.label}")
        elif name == "units":
            parts.append(f"{value} units")
        elif isinstance(value, float):
            parts.append(f"{name} {amount(value) if value >= 1000 else f'{value:.4f}'}")
    return printable("  ".join(parts))


class Bars:
    """A bar on a terminal, and a line for each measurement elsewhere: what `on_progress` of the commands is."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        self.bar: Bar | None = None
        self.task = TaskID(0)
        self.seen: dict[str, Any] = {}
        self.begun = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.kind == "start":
            self.start(progress.title, progress.total, progress.done)
        elif progress.kind == "step":
            self.step(progress.done, progress.facts)
        elif progress.kind == "note":
            self.note(progress.text)
        else:
            self.stop()

    def start(self, title: str, steps: int, done: int) -> None:
        self.begun = time.monotonic()
        self.first, self.steps, self.seen = done, steps, {}
        if done:
            self.note(f"goes on at step {done} of {steps}")
        if self.live:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[facts]}", markup=False),
            )
            self.bar = Bar(
                *columns,
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                console=self.console,
            )
            self.bar.start()
            self.task = self.bar.add_task(title, total=steps or None, completed=done, facts="")

    def step(self, done: int, facts: Mapping[str, Any]) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, facts=describe(facts))
        elif {k: v for k, v in facts.items() if k not in ("epoch", "loss")} != self.seen:
            self.seen = {k: v for k, v in facts.items() if k not in ("epoch", "loss")}
            if not self.steps:  # nobody says when it ends
                sys.stderr.write(f"{done:,}  {describe(facts)}\n")
                return
            spent = time.monotonic() - self.begun
            left = spent / max(done - self.first, 1) * (self.steps - done)
            sys.stderr.write(f"{100 * done / self.steps:3.0f} %  {describe(facts)}  {left:.0f} s left\n")

    def note(self, line: str) -> None:
        # Whatever a user's function or data says is text, and nothing that rich is to interpret.
        if self.live:
            self.console.print(printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True)
        else:  # rich would end the process where nobody reads
            sys.stderr.write(printable(line) + "\n")

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
