"""Runs every benchmark, one after the other, and keeps their tables under ``results``.

``python benchmarks/run.py`` (``make bench``) takes about forty minutes on two quiet cores. ``--smoke`` takes small
sizes, to see that everything runs: its figures say nothing and are not kept. ``--only`` picks some by name.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BUSY = 0.5  # of the cores; more load than this before the start and figures belong to something else
# (name, program, arguments of a smoke run)
SUITE = (
    ("sketch", "bench_sketch.py", "--prompts 200"),
    ("steps", "steps.py", "--events 3000 --runs 1"),
    ("cold-start", "cold_start.py", "--repeats 1"),
    ("latency", "latency.py", "--samples 20 --seconds 15 --backlog 20000"),
    ("side-by-side", "side_by_side.py", "--rounds 1 --slow-events 20000 --fast-events 20000 --warm-events 2000"),
    ("images", "images.py", "--accounts 20000 --rounds 1"),
    ("recovery", "recovery.py", "--accounts 20000 --images 4 --repeats 1"),
    ("failover", "failover.py", "--accounts 2000 --times 1"),
    ("soak", "soak.py", "--minutes 1"),
    ("memory", "memory.py", "--accounts 20000 --days 2 --accounts-a-day 10000"),
    ("generation", "generation.py", "--scale 0.01 --days 0.2 --repeats 1"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="small sizes, nothing kept")
    parser.add_argument("--only", default="", help="names, comma separated: " + ", ".join(name for name, *_ in SUITE))
    chosen = parser.parse_args()
    names = [name for name in chosen.only.split(",") if name]
    if unknown := set(names) - {name for name, *_ in SUITE}:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > BUSY * cores and not chosen.smoke:
        print(f"The machine is busy (load {load:.1f} on {cores} cores): the figures will say so.", file=sys.stderr)
    began, failed = time.monotonic(), []
    for name, program, small in SUITE:
        if names and name not in names:
            continue
        print(f"\n== {name} ==", flush=True)
        started = time.monotonic()
        options = small.split() if chosen.smoke else ["--save"]
        done = subprocess.run([sys.executable, str(HERE / program), *options], check=False)
        print(f"({name}: {time.monotonic() - started:.0f} s)", flush=True)
        if done.returncode:
            failed.append(name)
    print(f"\n{(time.monotonic() - began) / 60:.1f} minutes" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
