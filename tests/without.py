"""Commands where packages are not installed: each line of standard input has the modules that are hidden and a command,
as JSON; each line of the answer its exit code and what it said. All run in forks of one process."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.machinery import PathFinder
from typing import Any


class Hiding(PathFinder):
    """Finds what lies on the path but for some packages, as if these were not installed."""

    hidden: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in cls.hidden else PathFinder.find_spec(name, path, target)


def answer(hidden: list[str], command: list[str]) -> dict[str, Any]:
    Hiding.hidden = frozenset(hidden)
    there = [name for name in sys.modules if name.partition(".")[0] in Hiding.hidden]
    assert not there, f"imported before: {there}"
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(command)
    return {"code": code, "said": said.getvalue()}


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
    import torch  # noqa: F401

    from nasdsl.cli import main
    from nasdsl.compiler.pipeline import elaborate
    from nasdsl.compiler.supernet import Supernet
    from nasdsl.files import source_of

    Supernet(elaborate(source_of("tiny")).graph)  # with all that it needs

    os.chdir(sys.argv[1])
    for line in sys.stdin:
        back, forth = os.pipe()
        if os.fork() == 0:
            os.write(forth, json.dumps(answer(*json.loads(line))).encode())
            os._exit(0)
        os.close(forth)
        with os.fdopen(back) as pipe:
            print(pipe.read(), flush=True)
        os.wait()
