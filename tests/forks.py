"""Commands in forks of one process that has everything imported, so that starting one takes no time.

Run as a script it reads requests, one JSON record a line, and answers each with what became of it. `Forks` is the other
end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 120.0
"""Seconds after which a command has hung."""


@dataclass(frozen=True)
class Ended:
    """What became of a command: its status (negative: the signal that ended it), seconds, and what it said."""

    code: int
    seconds: float
    said: str


class Forks:
    """Runs commands of nasdsl in a folder, one after the other.

    Args:
        every_step: checkpoints are written after each step, not each minute.
    """

    def __init__(self, every_step: bool = False) -> None:
        command = [sys.executable, str(Path(__file__)), *(["--every-step"] if every_step else [])]
        self._server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *problem: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()

    def __call__(self, folder: Path, command: Sequence[str], kill: float | None = None) -> Ended:
        """
        Args:
            kill: the moment, in seconds, at which it is killed.
        """
        assert self._server.stdin is not None and self._server.stdout is not None
        request = {"folder": str(folder), "command": list(command), "kill": kill}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))


def serve() -> None:
    sys.path.insert(0, str(ROOT))
    import optuna  # noqa: F401
    import sqlalchemy  # noqa: F401
    import torch
    import torch.utils.tensorboard

    from nasdsl.cli import main
    from nasdsl.runtime import evaluators, fit, inherit, loop, predict, search, storage, trials  # noqa: F401
    from nasdsl.runtime.strategies import evolve, gradient, sample, screen, shrink, thin  # noqa: F401

    torch.set_num_threads(1)
    if "--every-step" in sys.argv:
        loop.CHECKPOINT_SECONDS = 0
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(answer(main, **request)), flush=True)


def answer(main: Any, folder: str, command: list[str], kill: float | None) -> dict[str, Any]:
    """Forks before any gradient is computed here, so that a fork is as good as a new process."""
    start = time.monotonic()
    with tempfile.NamedTemporaryFile() as said:
        status = waited(forked(main, folder, command, said.fileno()), LIMIT if kill is None else kill)
        words = Path(said.name).read_text(errors="replace")
    return {"code": status, "seconds": time.monotonic() - start, "said": words[-4000:]}


def forked(main: Any, folder: str, command: list[str], said: int) -> int:
    """The process of a command that writes all it says to a file."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(folder)
            sys.path.insert(0, folder)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = main(command)
            sys.stdout.flush()
            sys.stderr.flush()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # what escapes is what is looked for
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def waited(child: int, seconds: float) -> int:
    """How a process ended, or was ended after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(found)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    serve()
