"""Commands and scripts in forks of one process that has everything imported, so that starting one takes no time.

Run as a script it reads requests, one JSON record a line, and answers each with what became of it. `Forks` is the other
end.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 240.0
"""Seconds after which a command has hung."""


@dataclass(frozen=True)
class Ended:
    """What became of a command: its status (negative: the signal that ended it), seconds, and what it said."""

    code: int
    seconds: float
    said: str


class Forks:
    """Runs commands of nasdsl in a folder, and scripts, one after the other."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__))]
        self._server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *problem: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()

    def __call__(
        self, folder: Path, command: Sequence[str], kill: float | None = None, every_step: bool = False
    ) -> Ended:
        """
        Args:
            kill: the moment, in seconds, at which it is killed.
            every_step: checkpoints are written after each step, not each minute.
        """
        return self._asked(folder=str(folder), command=list(command), kill=kill, every_step=every_step)

    def script(self, file: Path, *arguments: str, ranks: int = 1) -> Ended:
        """
        Args:
            ranks: of processes that train together, as `torchrun` would start them.
        """
        return self._asked(script=[str(file), *arguments], ranks=ranks)

    def _asked(self, **request: Any) -> Ended:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Ended(**json.loads(self._server.stdout.readline()))


def serve() -> None:
    sys.path.insert(0, str(ROOT))
    import hypothesis  # noqa: F401
    import optuna  # noqa: F401
    import pytest  # noqa: F401
    import sqlalchemy  # noqa: F401
    import torch
    import torch.utils.tensorboard

    from nasdsl.cli import main
    from nasdsl.runtime import evaluators, fit, inherit, loop, predict, search, storage, trials  # noqa: F401
    from nasdsl.runtime.strategies import evolve, gradient, sample, screen, shrink, thin  # noqa: F401

    torch.set_num_threads(1)

    def commanded(folder: str, command: list[str], every_step: bool) -> int:
        if every_step:
            loop.CHECKPOINT_SECONDS = 0
        os.chdir(folder)
        sys.path.insert(0, folder)
        return main(command)

    for line in sys.stdin:
        request = json.loads(line)
        kill = request.pop("kill", None)
        if "script" in request:
            found = answer([partial(ran, request["script"], rank) for rank in ranks_of(request["ranks"])], kill)
        else:
            found = answer([partial(commanded, **request)], kill)
        print(json.dumps(found), flush=True)


def ranks_of(number: int) -> list[dict[str, str]]:
    """What `torchrun` puts into the environment of each of its processes; nothing for one alone."""
    if number == 1:
        return [{}]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    whole = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    whole |= {"TORCHELASTIC_RUN_ID": "forks", "GROUP_RANK": 0}
    return [{name: str(value) for name, value in (whole | {"RANK": i, "LOCAL_RANK": i}).items()} for i in range(number)]


def ran(script: list[str], environment: dict[str, str]) -> int:
    os.environ.update(environment)
    sys.argv = script
    runpy.run_path(script[0], run_name="__main__")
    return 0


def answer(works: Sequence[Callable[[], int]], kill: float | None) -> dict[str, Any]:
    """Forks before any gradient is computed here, so that a fork is as good as a new process."""
    start = time.monotonic()
    with tempfile.NamedTemporaryFile() as said:
        children = [forked(work, said.fileno()) for work in works]
        codes = [waited(child, LIMIT if kill is None else kill) for child in children]
        words = Path(said.name).read_text(errors="replace")
    code = next((code for code in codes if code), 0)
    return {"code": code, "seconds": time.monotonic() - start, "said": words[-20_000:]}


def forked(work: Callable[[], int], said: int) -> int:
    """The process of a work that writes all it says to a file."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = work()
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
