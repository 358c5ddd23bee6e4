"""`fic-runtime serve` as a process: signals, slow clients, and why it does not start."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HEAD = "POST /predict HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def failing(bundle, edit, golden):
    """Return a bundle that gives other results than those recorded in it."""
    import hashlib
    import io

    import numpy as np

    with np.load(golden / "golden.npz") as recorded:
        arrays = dict(recorded)
    arrays["probabilities"] = 1 - arrays["probabilities"]
    file = io.BytesIO()
    np.savez(file, **arrays)
    (bundle / "golden.npz").write_bytes(file.getvalue())
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    edit(lambda values: values["files"].update({"golden.npz": digest}))
    return bundle


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def post(picture, *headers):
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"{HEAD}Content-Length: {len(picture)}\r\n{lines}\r\n".encode()


def read_all(connection):
    data = b""
    with connection:
        while piece := connection.recv(65_536):
            data += piece
    return data


def test_it_serves_until_sigterm_and_logs_json(server, golden, picture):
    running = server(golden)
    status, answer = running.ask("POST", "/predict", picture)
    assert (status, answer["predictions"][0]["label"]) == (200, "Sonnenblume, groß")
    lines = [json.loads(line) for line in running.stop().splitlines()]
    assert {"time", "level"} <= lines[0].keys()
    assert any(line.get("path") == "/predict" and line["status"] == 200 for line in lines)


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="not Linux")
def test_its_connections_do_not_interrupt_the_threads_that_compute(server, golden):
    process = server(golden).process.pid
    threads = {int(path.name) for path in Path(f"/proc/{process}/task").iterdir()}
    assert os.sched_getscheduler(process) == os.SCHED_BATCH
    assert os.SCHED_OTHER in {os.sched_getscheduler(thread) for thread in threads - {process}}


def test_what_was_taken_is_finished_after_sigterm_and_what_is_new_refused(server, golden, picture):
    running = server(golden, "--workers", "1", "--max-queue", "64")
    many = [picture] * 16
    boundary = b"--x\r\n" + b"--x\r\n".join(
        b'Content-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + each + b"\r\n"
        for each in many
    )
    body = boundary + b"--x--\r\n"
    header = post(body, "Content-Type: multipart/form-data; boundary=x")
    slow = connect(running)
    slow.sendall(header + body[:-10])
    time.sleep(0.3)  # its header is taken
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(ConnectionRefusedError):
        connect(running)
    slow.sendall(body[-10:])
    answer = read_all(slow)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"]) == 16
    running.ended()


def test_clients_that_trickle_shut_nobody_out_and_are_ended(server, golden, picture):
    running = server(golden, "--body-seconds", "1.5", "--header-seconds", "1")
    slow_bodies = [connect(running) for _ in range(64)]
    for each in slow_bodies:
        each.sendall(post(picture) + picture[:100])
    slow_headers = [connect(running) for _ in range(16)]
    for each in slow_headers:
        each.sendall(HEAD.encode())
    started = time.monotonic()
    assert running.ask("POST", "/predict", picture)[0] == 200
    assert time.monotonic() - started < 1
    for each in slow_bodies:
        assert read_all(each).startswith(b"HTTP/1.1 408 ")
    for each in slow_headers:
        assert read_all(each).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 5
    text = running.ask("GET", "/metrics")[1].decode()
    assert 'fic_rejected_total{reason="deadline"} 64.0' in text


def test_a_connection_too_many_takes_the_place_of_the_one_that_waited_longest(
    server, golden, picture
):
    running = server(golden, "--max-connections", "8")
    idle = [connect(running) for _ in range(12)]
    assert running.ask("POST", "/predict", picture)[0] == 200
    ended = 0
    for each in idle:
        each.settimeout(0.2)
        try:
            ended += each.recv(1) == b""
        except TimeoutError:
            continue
        except ConnectionResetError:
            ended += 1
    assert ended == 5
    for each in idle:
        each.close()


def test_a_client_that_asks_first_is_told_to_go_on_at_once(server, golden, picture):
    running = server(golden)
    with connect(running) as client:
        client.sendall(post(picture, "Expect: 100-continue", "Connection: close"))
        started = time.monotonic()
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert time.monotonic() - started < 0.5
        client.sendall(picture)
        assert read_all(client).startswith(b"HTTP/1.1 200 OK")


def test_a_body_too_large_is_refused_before_it_is_sent_or_after_it(server, golden):
    running = server(golden, "--max-bytes", "100000")
    with connect(running) as client:
        client.sendall(post(bytes(200_000), "Expect: 100-continue"))
        assert read_all(client).startswith(b"HTTP/1.1 413 ")
    with connect(running) as client:  # sends all, and reads only then
        client.sendall(post(bytes(200_000)) + bytes(200_000))
        assert read_all(client).startswith(b"HTTP/1.1 413 ")
    with connect(running) as client:  # does not say how much comes
        client.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(4):
            client.sendall(b"c350\r\n" + bytes(50_000) + b"\r\n")
        client.sendall(b"0\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 413 ")


def test_a_header_without_end_is_refused(server, golden):
    running = server(golden)
    with connect(running) as client:
        client.sendall(HEAD.encode())
        answer = b""
        try:
            for number in range(200):
                client.sendall(f"X-{number}: {'a' * 1000}\r\n".encode())
            answer = read_all(client)
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert answer.startswith(b"HTTP/1.1 431 ") or not answer
    assert running.ask("GET", "/v2")[0] == 200


def test_clients_that_go_away_leave_no_traceback(server, golden, picture):
    running = server(golden, "--workers", "1")
    for data in (post(picture), post(picture) + picture[:500], post(picture) + picture, b"GET"):
        for _ in range(8):
            client = connect(running)
            client.sendall(data)
            # Reset, as of a process that was killed.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.close()
    assert running.ask("POST", "/predict", picture)[0] == 200
    log = running.stop()
    assert "raceback" not in log
    assert all(json.loads(line)["level"] == "info" for line in log.splitlines())


def test_many_at_once_are_answered_or_told_to_come_back(server, golden, picture):
    running = server(golden, "--workers", "1", "--max-queue", "4")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: running.ask("POST", "/predict", picture)[0], range(128)))
    assert {200} <= set(answers) <= {200, 503}


def test_a_failed_selftest_ends_it_with_code_3(failing):
    result = run(failing)
    assert (result.returncode, result.stdout.count("\n")) == (3, 1)
    assert "this device gives other results" in last_line(result)


def test_without_the_selftest_it_serves(server, failing, picture):
    assert server(failing, "--no-selftest").ask("POST", "/predict", picture)[0] == 200


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fic_runtime", "serve", *arguments, "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def last_line(result):
    assert "raceback" not in result.stderr
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "no manifest.json there"),
        (["BUNDLE", "--host", "192.0.2.1"], "cannot be listened on"),
        (["BUNDLE", "--host", "no.such.host.invalid"], "cannot be listened on"),
        (["BUNDLE", "--watch-heads", "nowhere"], "no such folder"),
        (["BUNDLE", "--page", "."], "no index.html"),
        (["BUNDLE", "--accept-heads"], "set FIC_SERVE_TOKEN"),
        (["BUNDLE", "--head", "nothing"], "no manifest.json there"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_sentence(arguments, says, golden):
    result = run(*(str(golden) if each == "BUNDLE" else each for each in arguments))
    assert result.returncode == 1
    assert result.stdout == ""
    assert last_line(result).startswith("fic-runtime: ")
    assert says in last_line(result)


def test_a_port_that_is_taken_is_said_in_one_sentence(golden):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = subprocess.run(
            [sys.executable, "-m", "fic_runtime", "serve", golden, "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}: cannot be listened on (Address already in use)" in result.stderr


def test_ctrl_c_ends_it_with_code_130(server, golden):
    running = server(golden)
    assert "raceback" not in running.stop(signal.SIGINT, 130)


def test_a_second_ctrl_c_ends_it_without_waiting_for_a_client(server, golden, picture):
    running = server(golden)
    with connect(running) as slow:
        slow.sendall(post(picture, "Expect: 100-continue"))
        assert slow.recv(1000).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        running.process.send_signal(signal.SIGINT)
        with pytest.raises(ConnectionError):
            while True:
                connect(running).close()
                time.sleep(0.02)  # or they would take the place of the slow one
        assert "raceback" not in running.stop(signal.SIGINT, 130)


def test_a_head_that_appears_in_the_folder_is_served(server, golden, make_head, tmp_path, picture):
    folder = tmp_path / "heads"
    folder.mkdir()
    running = server(golden, "--watch-heads", folder)
    make_head(tmp_path / "new", bias=9, labels=("neu", "b", "c")).rename(folder / "new")
    until = time.monotonic() + 20
    while running.ask("POST", "/predict", picture)[1]["predictions"][0]["label"] != "neu":
        assert time.monotonic() < until
        time.sleep(0.1)


def test_several_heads_are_opened_by_their_options(server, golden, make_head, tmp_path, picture):
    one = make_head(tmp_path / "one")
    running = server(golden, "--head", f"erster={one}", "--head", golden)
    (found,) = running.ask("POST", "/predict", picture)[1]["predictions"]
    assert {name: each["label"] for name, each in found["heads"].items()} == {
        "erster": "zwei",
        "bundle-v1": "Sonnenblume, groß",
    }


def test_answers_of_many_threads_stay_apart(server, golden):
    running = server(golden)
    files = [file.read_bytes() for file in sorted(Path(golden).glob("*.png"))]
    alone = [running.ask("POST", "/predict", file)[1] for file in files]
    failures = []

    def ask(number):
        if (
            running.ask("POST", "/predict", files[number % len(files)])[1]
            != alone[number % len(files)]
        ):
            failures.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
