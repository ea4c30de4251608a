"""Plain training, epoch by epoch, into a run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nasdsl.runtime.errors import Diverged
from nasdsl.runtime.optim import peak_rate
from nasdsl.runtime.problem import Watch
from nasdsl.runtime.runs import HISTORY, Board, RunFolder
from nasdsl.runtime.trainer import Trainer

CHECKPOINT_SECONDS = 60


def run_epochs(
    trainer: Trainer, run: RunFolder, watch: Watch, title: str, first: Mapping[str, Any] | None = None
) -> None:
    """Trains to the end, with a measurement and a checkpoint after each epoch, and checkpoints between.

    Args:
        first: what the first record of the history has beside.
    """

    def measured() -> dict[str, Any]:
        row = {"step": trainer.step, "epoch": trainer.step / trainer.steps_per_epoch, **trainer.evaluate()}
        return row if trainer.rows else {**row, **(first or {})}

    def log(board: Board, row: dict[str, Any]) -> None:
        board.measured(row, trainer.step)

    run_stages(trainer, run, watch, title, trainer.steps_per_epoch, measured, (trainer.task.headline,), log)


def run_stages(
    trainer: Trainer,
    run: RunFolder,
    watch: Watch,
    title: str,
    interval: int,
    measured: Callable[[], dict[str, Any]],
    shown: Sequence[str],
    log: Callable[[Board, dict[str, Any]], None],
) -> None:
    """Trains to the end; every `interval` steps, and at the end, it measures and checkpoints, with checkpoints between.
    Whoever watches is told first what follows from the data where the settings leave it open.

    Args:
        measured: does what is due after an interval, and gives the row for the history.
        shown: entries of a row that whoever watches sees.
        log: writes a row for the eye.

    Raises:
        Diverged: the loss or the weights are no finite numbers any more. The last checkpoint stays: none is written of
            such a state.
    """
    main = trainer.fabric.is_global_zero
    board = Board(run.path / "events") if main and run.kept else None
    watch.note(f"{title}: {_pace(trainer)}")
    watch.start(title, trainer.steps, trainer.step)
    saved, recent, kept = time.monotonic(), 0.0, trainer.step
    facts: dict[str, Any] = {}

    def on_step(trainer: Trainer, loss: float) -> None:
        nonlocal saved, recent, kept
        recent = loss if not recent else 0.95 * recent + 0.05 * loss
        facts.update(epoch=trainer.step / trainer.steps_per_epoch, loss=recent)
        watch.step(trainer.step, facts)
        due = trainer.step % interval == 0 or trainer.step == trainer.steps
        if main and time.monotonic() - saved > CHECKPOINT_SECONDS and not due:  # a resumed run would not measure
            trainer.check_weights()
            run.save(trainer.state())
            saved, kept = time.monotonic(), trainer.step

    try:
        while trainer.step < trainer.steps:
            trainer.fit((trainer.step // interval + 1) * interval, on_step)
            trainer.check_weights()
            row = measured()
            trainer.rows.append(row)
            facts.update({key: row[key] for key in shown})
            watch.step(trainer.step, facts)
            if main:  # the history first: it is written anew from the checkpoint's rows where a kill comes between
                run.write_records({HISTORY: trainer.rows})
                run.save(trainer.state())
                saved, kept = time.monotonic(), trainer.step
            if board is not None:
                log(board, row)
    except Diverged as problem:
        raise Diverged(problem.why, _advice(run, kept)) from None
    finally:
        watch.stop()
        if board is not None:
            board.close()


def _advice(run: RunFolder, kept: int) -> str:
    """What to do about a training that has diverged.

    Args:
        kept: the step whose state the run's folder has; 0 for none.
    """
    state = f"{run.checkpoint} keeps the state of step {kept:,}\n" if kept and run.checkpoint.exists() else ""
    return f"{state}a lower rate (`optimiser.lr`), `clip` or a warm-up may help; `--fresh` starts over with them"


def _pace(trainer: Trainer) -> str:
    """`20 epochs of 64 batches of 8, adamw at 0.018`."""
    settings = trainer.settings
    batches = f"{trainer.steps_per_epoch:,} batches of {min(settings.batch, len(trainer.data.train)):,}"
    epochs = f"{settings.epochs:g} epoch{'' if settings.epochs == 1 else 's'}"
    return f"{epochs} of {batches}, {settings.optimiser.name} at {peak_rate(settings):.2g}"
