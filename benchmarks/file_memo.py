"""Resolve 100 000 files to their digests: cold, with a warm memo, and with half of them changed.

    python benchmarks/file_memo.py [--files 100000] [--repeats 3]

The files hold 1 kB each, so the cold figure is that of opening files and not of reading photos.
"""

import argparse
import os
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

from fic.data.file_memo import Digests, FileDigests

_SETTLED = 2.5  # seconds; what changed less than two ago is not remembered


def make_files(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        if number % 1000 == 0:
            (folder / f"{number // 1000:04}").mkdir()
        path = folder / f"{number // 1000:04}" / f"picture-{number:08}.jpg"
        path.write_bytes(b"%1024d" % number)
        paths.append(path)
    return paths


def resolve(memo: Path | None, paths: list[Path]) -> tuple[float, Digests]:
    start = time.perf_counter()
    with FileDigests(memo) as digests:
        found = digests.digests(paths)
    return time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        paths = make_files(Path(directory), options.files)
        time.sleep(_SETTLED)
        memo = Path(directory) / "files.sqlite"
        cold, warm, half = [], [], []
        for repeat in range(options.repeats):
            memo.unlink(missing_ok=True)
            seconds, found = resolve(memo, paths)
            cold.append(seconds)
            seconds, again = resolve(memo, paths)
            warm.append(seconds)
            if again != found:
                raise SystemExit("the memo changed a digest")
            then = time.time() - 1800 + repeat
            for path in paths[::2]:
                os.utime(path, (then, then))
            time.sleep(_SETTLED)
            half.append(resolve(memo, paths)[0])
        size = memo.stat().st_size
        tracemalloc.start()
        resolve(memo, paths)
        peak = tracemalloc.get_traced_memory()[1]
    print(f"{options.files} files, median of {options.repeats}")
    print(f"no memo yet             {statistics.median(cold):8.2f} s")
    print(f"warm memo               {statistics.median(warm):8.2f} s")
    print(f"half of them changed    {statistics.median(half):8.2f} s")
    print(f"cold / warm             {statistics.median(cold) / statistics.median(warm):8.1f}")
    print(f"memo                    {size / 1e6:8.1f} MB on disk")
    print(f"Python memory, peak     {peak / 1e6:8.1f} MB, the answer included")


if __name__ == "__main__":
    main()
