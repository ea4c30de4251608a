"""Commands and scripts in forks of one process that has everything imported, so that starting one takes no time.

Run as a script it reads requests, one JSON record a line, and answers each with what became of it. `Forks` is the other
end. `Forks.shell` runs lines of `sh` in which `nasdsl`, `python`, `pytest` and `pip` are such forks: their stand-ins
(`tests/stand_in.py`) hand over their arguments and open files through a socket. `Forks.session` is one process that
runs pieces of Python one after the other.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 240.0
"""Seconds after which a command has hung."""
STAND_IN = ROOT / "tests" / "stand_in.py"
STAND_INS = {"nasdsl": ["-m", "nasdsl"], "python": [], "python3": [], "pytest": ["-m", "pytest"], "pip": ["-m", "pip"]}
"""Commands of a shell's lines: what stands before their arguments where they are run by Python."""


@dataclass(frozen=True)
class Ended:
    """What became of a command: its status (negative: the signal that ended it), seconds, and what it said."""

    code: int
    seconds: float
    said: str


class Session:
    """The end of `Forks.session`."""

    def __init__(self, server: str, folder: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the session)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(server)
        request = {"session": True, "folder": str(folder), "environment": dict(os.environ)}
        streams = [os.open(os.devnull, os.O_RDONLY), self._said.fileno(), self._said.fileno()]
        send(self._socket, request, streams)
        os.close(streams[0])

    def run(self, code: str, name: str, line: int) -> Ended:
        """
        Args:
            name: of the file that the code stands in, from a line on, for tracebacks.
        """
        start, before = time.monotonic(), self._said.seek(0, os.SEEK_END)
        send(self._socket, {"code": "\n" * (line - 1) + code, "name": name})
        self._socket.settimeout(LIMIT)
        found = receive(self._socket)[0]
        self._said.seek(before)
        words = self._said.read().decode(errors="replace")
        return Ended(70 if found is None else found["code"], time.monotonic() - start, words)

    def close(self) -> None:
        self._socket.close()
        self._said.close()


def send(to: socket.socket, record: dict[str, Any], files: Sequence[int] = ()) -> None:
    """A record and open files."""
    text = json.dumps(record).encode()
    head = len(text).to_bytes(8, "big")
    if files:
        socket.send_fds(to, [head], list(files))
        to.sendall(text)
    else:
        to.sendall(head + text)


def receive(of: socket.socket) -> tuple[Any, list[int]]:
    """What `send` sent; None where the other end has left."""
    head, files, _, _ = socket.recv_fds(of, 8, 3)
    if not head:
        return None, []
    text = b""
    size = int.from_bytes(head, "big")
    while len(text) < size:
        part = of.recv(size - len(text))
        if not part:
            return None, files
        text += part
    return json.loads(text), files


class Forks:
    """Runs commands of nasdsl in a folder, and scripts, one after the other."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._socket = f"{self._folder.name}/socket"
        self._commands = f"{self._folder.name}/bin"
        os.mkdir(self._commands)
        for name, before in STAND_INS.items():
            file = Path(self._commands, name)
            words = " ".join([sys.executable, "-ISE", str(STAND_IN), self._socket, *before])
            file.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            file.chmod(0o700)
        with socket.socket(socket.AF_UNIX) as listening:  # made here, so that whoever comes early waits
            listening.bind(self._socket)
            listening.listen()
            self._server = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(listening.fileno())],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=[listening.fileno()],
            )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *problem: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()
        self._folder.cleanup()

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

    def shell(self, folder: Path, line: str, environment: dict[str, str], limit: float = LIMIT) -> Ended:
        """Runs a line of `sh` in a folder; what it says on both streams, in order.

        Args:
            environment: beside that of the tests.
            limit: seconds.
        """
        known = os.environ | environment | {"PATH": f"{self._commands}{os.pathsep}{os.environ['PATH']}"}
        start = time.monotonic()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                ["sh", "-c", line], cwd=folder, env=known, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            said.seek(0)
            words = said.read().decode(errors="replace")
        return Ended(code, time.monotonic() - start, words)

    def session(self, folder: Path) -> Session:
        """A process that runs pieces of Python in a folder, whose modules it finds."""
        return Session(self._socket, folder)

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

    listening = socket.socket(fileno=int(sys.argv[1]))
    while True:
        ready, _, _ = select.select([sys.stdin, listening], [], [], 1.0)
        while reaped():
            pass
        if listening in ready:
            stand(listening)
            continue
        if sys.stdin not in ready:
            continue
        line = sys.stdin.readline()  # one at a time is asked for, so nothing else waits in the buffer
        if not line:
            return
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


def reaped() -> bool:
    """Whether a fork of a stand-in had ended and could be forgotten."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def stand(listening: socket.socket) -> None:
    """Does what a stand-in asks for in a fork, with the stand-in's open files."""
    connection, _ = listening.accept()
    if os.fork():
        connection.close()
        return
    listening.close()
    request, files = receive(connection)
    for target, file in enumerate(files):
        os.dup2(file, target)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in added if path and path not in sys.path]
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(file, mode, 1) for file, mode in enumerate("rww"))
    if "session" in request:
        sys.path.insert(0, request["folder"])
        pieces(connection)
    else:
        send(connection, {"code": ended(partial(python, request["arguments"], request["folder"]))})
    os._exit(0)


def pieces(connection: socket.socket) -> None:
    """Runs pieces of Python in one namespace until the other end leaves."""
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    while (request := receive(connection)[0]) is not None:
        linecache.cache[request["name"]] = (0, None, request["code"].splitlines(keepends=True), request["name"])

        def piece(request: dict[str, Any] = request) -> int:
            exec(compile(request["code"], request["name"], "exec"), main.__dict__)
            return 0

        send(connection, {"code": ended(piece)})


def python(arguments: list[str], folder: str) -> int:
    """What `python` does with its arguments: a module, a text, or a file, and those of that."""
    if arguments[:1] == ["-m"]:
        sys.path.insert(0, folder)
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[:1] == ["-c"]:
        sys.path.insert(0, folder)
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    elif arguments and not arguments[0].startswith("-"):
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        os.execv(sys.executable, [sys.executable, *arguments])
    return 0


def ended(work: Callable[[], int]) -> int:
    """The exit code of a work, whatever ends it."""
    code = 1
    try:
        code = work()
    except SystemExit as end:
        if end.code is None:
            code = 0
        elif isinstance(end.code, int):
            code = end.code
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # whoever read it has left
            stream.flush()
    return code


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
    os._exit(0)  # nothing here is worth the time that taking torch down in order needs
