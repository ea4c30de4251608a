"""What all benchmarks share: times taken side by side, tables, and files of results."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nasdsl.compiler.files import write_text

if TYPE_CHECKING:
    import torch

RESULTS = Path(__file__).resolve().parent / "results"

Job: TypeAlias = tuple[str, Callable[..., dict[str, Any]], tuple[Any, ...]]
"""A name, and a function of a module that gives a JSON value, with its arguments."""


def done(work: Path, jobs: Iterable[Job], workers: int) -> dict[str, dict[str, Any]]:
    """The results of jobs by name. Each writes one file into a folder, and is not done again where that is there."""
    wanted = {name: (function, arguments) for name, function, arguments in jobs}
    files = {name: work / f"{name}.json" for name in wanted}
    missing = [name for name, file in files.items() if not file.exists()]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        running = {pool.submit(wanted[name][0], *wanted[name][1]): name for name in missing}
        for future in as_completed(running):
            name = running[future]
            if future.exception() is not None:
                pool.shutdown(cancel_futures=True)
            write_text(files[name], json.dumps(future.result()) + "\n")
            print(f"{name}: {files[name].read_text().strip()[-120:]}", flush=True)
    return {name: json.loads(file.read_text()) for name, file in files.items()}


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def interleaved(
    rivals: Mapping[str, Callable[[], object]], repeats: int, warm: int = 2, cpu: bool = False
) -> dict[str, list[float]]:
    """Seconds of each call of each rival, taken in turns, so that whatever else the machine does meets all of them.

    Every second round runs backwards, so that nobody always comes after the same one.

    Args:
        cpu: count the processor's time in this process, rather than the time that passes.
    """
    clock = time.process_time if cpu else time.perf_counter
    for _ in range(warm):
        for call in rivals.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for i in range(repeats):
        for name in list(rivals) if i % 2 == 0 else reversed(list(rivals)):
            start = clock()
            rivals[name]()
            times[name].append(clock() - start)
    return times


def ratio(times: Mapping[str, Sequence[float]], name: str, rival: str) -> float:
    """The median over rounds of one's time by the other's."""
    return statistics.median(a / b for a, b in zip(times[name], times[rival], strict=True))


def peak(run: Callable[[], None], device: torch.device | None = None) -> int:
    """The most bytes that a call has allocated at once, beside what was there before.

    Args:
        device: by default the CPU.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    if device is not None and device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    run()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def spread(values: Sequence[float], digits: int) -> str:
    """The mean with the standard deviation, where there are several values: `93.28 ± 0.36`."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown, its columns aligned, numbers to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = [all(row[i][:1].isdigit() or not row[i] for row in rows) for i in range(len(head))]

    def written(line: Sequence[str]) -> str:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + "|"
    return "\n".join([written(lines[0]), rule, *map(written, lines[1:])])


def machine() -> list[str]:
    """Where and with what the figures were taken, as lines of markdown."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    lines = [
        f"- {datetime.date.today().isoformat()}, `python -m benchmarks {shlex.join(sys.argv[1:])}`",
        f"- {name}, {os.cpu_count()} cores; {platform.system()}, Python {platform.python_version()}",
    ]
    if "torch" in sys.modules:
        import torch

        lines.append(f"- torch {torch.__version__}, {torch.get_num_threads()} thread(s)")
        if torch.cuda.is_available():
            lines[-1] += f", {torch.cuda.get_device_name()}"
    if hasattr(os, "getloadavg"):
        lines.append(f"- load average at the end: {os.getloadavg()[0]:.1f}")
    return lines


def report(name: str, title: str, sections: Sequence[tuple[str, str]], out: Path | None = RESULTS) -> None:
    """Prints sections of (heading, text), and writes them with what is known of the machine to `NAME.md`."""
    for heading, text in sections:
        print(f"\n{heading}\n\n{text}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections)
        text = f"# {title}\n\n" + "\n".join(machine()) + f"\n\n{body}\n"
        (out / f"{name}.md").write_text(text, encoding="utf-8", newline="\n")
        print(f"\nwritten to {out / f'{name}.md'}")
