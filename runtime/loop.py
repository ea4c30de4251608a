"""Plain training, epoch by epoch, into a run's folder."""

from __future__ import annotations

import time
from typing import Any

from nasdsl.runtime.problem import Watch
from nasdsl.runtime.runs import Board, RunFolder
from nasdsl.runtime.trainer import Trainer

CHECKPOINT_SECONDS = 60


def run_epochs(trainer: Trainer, run: RunFolder, watch: Watch, title: str) -> None:
    """Trains to the end, with a measurement and a checkpoint after each epoch, and checkpoints between."""
    main = trainer.fabric.is_global_zero
    board = Board(run.path / "events") if main else None
    watch.start(title, trainer.steps, trainer.step)
    saved, recent = time.monotonic(), 0.0
    facts: dict[str, Any] = {}

    def on_step(trainer: Trainer, loss: float) -> None:
        nonlocal saved, recent
        recent = loss if not recent else 0.95 * recent + 0.05 * loss
        facts.update(epoch=trainer.step / trainer.steps_per_epoch, loss=recent)
        watch.step(trainer.step, facts)
        measures = trainer.step % trainer.steps_per_epoch == 0 or trainer.step == trainer.steps
        if main and time.monotonic() - saved > CHECKPOINT_SECONDS and not measures:  # a resumed run would not measure
            run.save(trainer.state())
            saved = time.monotonic()

    try:
        while trainer.step < trainer.steps:
            trainer.fit((trainer.epoch + 1) * trainer.steps_per_epoch, on_step)
            measured = trainer.evaluate()
            trainer.rows.append({"step": trainer.step, "epoch": trainer.step / trainer.steps_per_epoch, **measured})
            facts[trainer.task.headline] = measured[trainer.task.headline]
            watch.step(trainer.step, facts)
            if main:  # the history first: it is written anew from the checkpoint's rows where a kill comes between
                run.write_rows(trainer.rows)
                run.save(trainer.state())
                saved = time.monotonic()
            if board is not None:
                board.scalars(measured, trainer.step)
    finally:
        watch.stop()
        if board is not None:
            board.close()
