"""`fic-runtime serve` under load: the throughput, the queue, the memory and one large upload.

    python benchmarks/serving.py BUNDLE PHOTOS [--clients 32] [--rounds 3] [--soak 20000]

Starts a server of its own and sends traffic to it alone, on 127.0.0.1, from a second process.

* `throughput`: photos a second of `--clients` connections that always have one request on the way,
  in turn with `Classifier.stream` on the same photos, with one thread for each as the server has.
* `overload`: percentiles of the accepted answers with so many clients that the queue is just full,
  and with four times as many, which ask again after what Retry-After says or half a second.
* `soak`: resident memory of the server after a tenth of so many requests and after all.
* `upload`: a JPEG of 2.8 MB by curl, which asks first (`Expect: 100-continue`).
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
from measuring import in_turn, median_ratio, some_photos, spread, wall_seconds

from fic_runtime import Classifier

SECONDS_TO_WAIT = 0.5  # of a client that was refused, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--overload-seconds", type=float, default=15.0)
    parser.add_argument("--soak", type=int, default=20_000)
    options = parser.parse_args()

    files = some_photos(options.photos, options.images)
    photos = [file.read_bytes() for file in files]
    with server(options.bundle) as (port, process):
        throughput(options.bundle, photos, port, options.clients, options.rounds)
        overload(photos, port, options.clients, options.overload_seconds)
        if options.soak:
            soak(photos, port, process, options.clients, options.soak)
        upload(photos[0], port)


@contextmanager
def server(bundle: Path) -> Iterator[tuple[int, int]]:
    """Start a server; give its port and its process."""
    command = [sys.executable, "-m", "fic_runtime", "serve", bundle, "--port", "0"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline()).port
        assert port is not None
        while not is_ready(port):
            time.sleep(0.1)
        yield port, process.pid
        process.terminate()
        process.wait()
        log.seek(0)
        assert b"raceback" not in log.read()


def throughput(bundle: Path, photos: list[bytes], port: int, clients: int, rounds: int) -> None:
    classifier = Classifier(bundle, threads=1)
    figures = in_turn(
        rounds,
        served=lambda: len(photos) / in_process(ask_all, photos, port, clients, len(photos))[0],
        stream=lambda: len(photos) / wall_seconds(lambda: list(classifier.stream(photos))),
    )
    ratio = median_ratio(figures["served"], figures["stream"])
    print(
        f"throughput: {clients} clients {spread(figures['served'])} photos/s, Classifier.stream "
        f"{spread(figures['stream'])}, ratio {ratio:.2f} (bar: 0.9)"
    )


def overload(photos: list[bytes], port: int, clients: int, seconds: float) -> None:
    ratios = []
    for _ in range(2):
        full = in_process(ask_for, photos, port, clients, seconds)[1]
        over = in_process(ask_for, photos, port, 4 * clients, seconds)[1]
        ninety_nine = [percentile(times) for times, _ in (full, over)]
        ratios.append(ninety_nine[1] / ninety_nine[0])
        print(
            f"overload: p99 {1000 * ninety_nine[0]:.0f} ms of {len(full[0])} at full load "
            f"({full[1]} refused), {1000 * ninety_nine[1]:.0f} ms of {len(over[0])} at four times "
            f"that ({over[1]} refused)",
            flush=True,
        )
    print(f"overload: ratio of the p99 {statistics.median(ratios):.2f} (bar: 2)")


def soak(photos: list[bytes], port: int, process: int, clients: int, number: int) -> None:
    resident = []
    for _ in range(10):
        in_process(ask_all, photos, port, clients, number // 10)
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        resident.append(int(line.split()[1]) / 1024)
        print(f"soak: {len(resident) * (number // 10)} requests, {resident[-1]:.0f} MB", flush=True)
    print(f"soak: growth from the first tenth to the last {resident[-1] - resident[0]:+.1f} MB")


def upload(photo: bytes, port: int) -> None:
    picture = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    large = cv2.resize(picture, (4000, 3000), interpolation=cv2.INTER_CUBIC)
    quality = next(
        quality
        for quality in range(50, 101)
        if len(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]) >= 2_800_000
    )
    times = []
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        Path(file.name).write_bytes(
            cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        )
        for _ in range(5):
            command = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{time_total}"]
            address = f"http://127.0.0.1:{port}/predict"
            send = ["--header", "Expect: 100-continue", "--data-binary", f"@{file.name}", address]
            times.append(float(subprocess.check_output([*command, *send], text=True)))
    size = len(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]) / 1e6
    print(f"upload: {size:.1f} MB by curl in {spread(times)} s (bar: 0.15)")


_photos: list[bytes] = []  # of a process of clients, which is forked with them

Answers = tuple[list[float], int]  # the seconds of the accepted, and how many were refused


def in_process(
    work: Callable[..., Answers], photos: list[bytes], *arguments: float
) -> tuple[float, Answers]:
    """Run the clients in a process of their own; return its seconds and what they saw."""
    with multiprocessing.get_context("fork").Pool(1, _keep, (photos,)) as pool:
        return pool.apply(_timed, (work, *arguments))


def _keep(photos: list[bytes]) -> None:
    global _photos
    _photos = photos
    # As from another machine: waking up, they do not interrupt the server.
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _timed(work: Callable[..., Answers], *arguments: float) -> tuple[float, Answers]:
    started = time.perf_counter()
    answers = work(_photos, *arguments)
    return time.perf_counter() - started, answers


def ask_all(photos: list[bytes], port: int, clients: int, number: int) -> Answers:
    """Ask so many times, with all photos in turn."""
    numbers = iter(range(number))
    return ask(photos, port, clients, lambda: next(numbers, None))


def ask_for(photos: list[bytes], port: int, clients: int, seconds: float) -> Answers:
    """Ask for so many seconds."""
    numbers, until = count(), time.monotonic() + seconds
    return ask(photos, port, clients, lambda: next(numbers) if time.monotonic() < until else None)


def ask(photos: list[bytes], port: int, clients: int, take: Callable[[], int | None]) -> Answers:
    """Ask by threads with plain sockets, which cost the processors next to nothing."""
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n"
    requests = [head.format(len(photo)).encode() + photo for photo in photos]
    seconds: list[float] = []
    refused: list[int] = []
    taking = threading.Lock()

    def client(_: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            while True:
                with taking:
                    number = take()
                if number is None:
                    return
                started = time.perf_counter()
                status, wait = exchange(connection, requests[number % len(requests)])
                if status == 200:
                    seconds.append(time.perf_counter() - started)
                else:
                    assert status == 503, status
                    refused.append(number)
                    time.sleep(min(wait, SECONDS_TO_WAIT))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return seconds, len(refused)


def exchange(connection: socket.socket, request: bytes) -> tuple[int, float]:
    """Send a request; return the status and the seconds to wait."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    missing = int(headers["content-length"]) - len(body)
    while missing > 0:
        missing -= len(received(connection))
    return int(lines[0].split()[1]), float(headers.get("retry-after", 0))


def received(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    assert data, "the server closed the connection"
    return data


def is_ready(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        return exchange(connection, b"GET /v2/health/ready HTTP/1.1\r\n\r\n")[0] == 200


def percentile(times: list[float]) -> float:
    return float(np.percentile(times, 99))


if __name__ == "__main__":
    main()
