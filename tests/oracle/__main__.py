"""`python -m tests.oracle --programs 100000 --workers 2`: compares so many random programs and prints what differs."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter
from random import Random

from tests.oracle.compare import MOST, Outcome, compared
from tests.oracle.generate import program
from tests.oracle.shrink import shrunk


def compare_seed(job: tuple[int, bool, int]) -> tuple[int, Outcome]:
    seed, network, most = job
    return seed, compared(program(Random(seed)), seed, network, most)


def smallest(seed: int, kind: str) -> str:
    """The program of a seed, made smaller as long as it differs in the same way."""
    networks = kind.startswith(("internal", "weights", "output", "extracted"))
    return shrunk(program(Random(seed)), lambda text: compared(text, seed, networks).kind == kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first program")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--networks", type=int, default=20, help="every so-manieth program is built; 0 for none")
    parser.add_argument("--most", type=int, default=MOST, help="architectures of a program; larger ones are left out")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no more are begun")
    parser.add_argument("--shown", type=int, default=3, help="how many differences of a kind are printed")
    given = parser.parse_args()
    jobs = [
        (seed, bool(given.networks) and seed % given.networks == 0, given.most)
        for seed in range(given.first, given.first + given.programs)
    ]
    states: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    differences: Counter[str] = Counter()
    done: Counter[str] = Counter()
    members = 0
    started = time.perf_counter()
    with multiprocessing.Pool(given.workers) as pool:
        for seed, outcome in pool.imap_unordered(compare_seed, jobs, chunksize=20):
            if time.perf_counter() - started > given.seconds:
                break
            states[outcome.state] += 1
            members += outcome.members
            done.update(outcome.done)
            if outcome.state == "differs":
                differences[outcome.kind] += 1
                if differences[outcome.kind] <= given.shown:
                    print(
                        f"--- {outcome.kind}, seed {seed}: {outcome.detail}\n{smallest(seed, outcome.kind)}", flush=True
                    )
            elif outcome.state in ("restricted", "refused"):
                kinds[f"{outcome.state} {outcome.kind}"] += 1
    seconds = time.perf_counter() - started
    programs = sum(states.values())
    print(f"{programs:,} programs in {seconds:,.0f} s, {1000 * seconds / max(programs, 1):.1f} ms each")
    print(f"{members:,} architectures;", ", ".join(f"{name} {number:,}" for name, number in sorted(done.items())))
    for name, number in [*states.most_common(), *kinds.most_common()]:
        print(f"{number:8,} {name}")
    for name, number in differences.most_common():
        print(f"{number:8,} differs: {name}")


if __name__ == "__main__":
    main()
