"""What the report costs at the end of a training, and how large it is.

    python benchmarks/report.py RUN [--rounds 5]

RUN is a run whose pictures and cache are there. The thumbnails are remembered from the first round
on, as in a second training.
"""

import argparse
import time
from pathlib import Path

from measuring import spread

from fic.insight.reporting import read_report_pictures
from fic.runs import Run
from fic.runs.report import render_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    run = Run(options.run)
    results = run.results()
    pictures = read_report_pictures(run, results.validation)
    text, seconds = "", []
    for number in range(options.rounds + 1):
        started, own = time.perf_counter(), time.process_time()
        text = render_report(results, pictures)
        taken, cost = time.perf_counter() - started, time.process_time() - own
        print(f"round {number}: {taken:.3f} s, {cost:.3f} s of the processors")
        seconds.append(taken)
    print(f"first {seconds[0]:.3f} s, then {spread(seconds[1:])} s")
    print(f"{len(results.validation)} pictures, {len(text.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
