"""Classify pictures over HTTP; needs fic-runtime and the standard library only.

    python examples/web_service.py BUNDLE --port 8000
    curl --data-binary @photo.jpg http://127.0.0.1:8000/predict?top=3

POST /predict takes the bytes of an image file and answers in JSON; what is no picture is 400, what
is too large 413, and 503 says that too many wait already. GET /health says what is served. Ctrl-C
or SIGTERM answers what has begun and ends. Before it meets the open internet, put a proxy in front
that knows TLS and limits.
"""

import argparse
import json
import signal
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fic_runtime import Classifier, FicError, ImageError
from fic_runtime.devices import usable_cpus

MAX_BYTES = 20 * 2**20
MAX_WAITING = 64


class Service(ThreadingHTTPServer):
    """The server with its classifier; one thread a connection, one picture a processor."""

    daemon_threads = False  # what has begun is answered before the end
    request_queue_size = 128  # connections that the system holds until they are accepted

    def __init__(self, address: tuple[str, int], classifier: Classifier) -> None:
        super().__init__(address, Handler)
        self.classifier = classifier
        self.processors = threading.BoundedSemaphore(usable_cpus())
        self.waiting = threading.BoundedSemaphore(MAX_WAITING)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Service
    timeout = 30  # seconds for a client that sends nothing
    server_version = "fic"
    sys_version = ""

    def do_GET(self) -> None:
        """Say what is served."""
        if urlsplit(self.path).path != "/health":
            self.refuse(HTTPStatus.NOT_FOUND, "POST a picture to /predict")
            return
        classifier = self.server.classifier
        self.answer(HTTPStatus.OK, {"labels": classifier.labels, "provider": classifier.provider})

    def do_POST(self) -> None:
        """Classify the picture that is the body."""
        url = urlsplit(self.path)
        if url.path != "/predict":
            self.refuse(HTTPStatus.NOT_FOUND, "POST a picture to /predict")
            return
        length, top = self.headers.get("Content-Length", ""), parse_qs(url.query).get("top", ["1"])
        if not length.isdecimal():
            self.refuse(HTTPStatus.LENGTH_REQUIRED, "say Content-Length")
        elif int(length) > MAX_BYTES:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BYTES} bytes")
        elif not top[0].isdecimal() or int(top[0]) < 1:
            self.refuse(HTTPStatus.BAD_REQUEST, "top is a whole number of at least 1")
        elif not self.server.waiting.acquire(blocking=False):
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many pictures wait; try again later")
        else:
            try:
                self.classify(self.rfile.read(int(length)), int(top[0]))
            finally:
                self.server.waiting.release()

    def classify(self, picture: bytes, top: int) -> None:
        """Answer with the best labels."""
        try:
            with self.server.processors:
                prediction = self.server.classifier.predict(picture)
        except ImageError as error:
            self.refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        best = prediction.top(top)
        scores = [{"label": each.label, "probability": each.probability} for each in best]
        self.answer(HTTPStatus.OK, {"label": prediction.label, "top": scores})

    def refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer with an error; the connection ends, for its body may not have been read."""
        self.close_connection = True
        self.answer(status, {"error": why})

    def answer(self, status: HTTPStatus, values: dict[str, Any]) -> None:
        """Send a JSON object."""
        body = json.dumps(values, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all of this machine's")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    options = parser.parse_args()
    try:
        # One thread a picture gives the most answers a second where several come at once.
        classifier = Classifier(options.bundle, threads=1)
    except FicError as error:
        sys.exit(str(error))
    try:
        service = Service((options.host, options.port), classifier)
    except OSError as error:
        sys.exit(f"port {options.port}: {error.strerror}; choose another with --port")
    for number in (signal.SIGINT, signal.SIGTERM):
        # In a thread: shutdown waits for the loop that this very signal interrupts.
        signal.signal(number, lambda *_: threading.Thread(target=service.shutdown).start())
    print(f"http://{options.host}:{service.server_address[1]}/predict", flush=True)
    with classifier, service:
        service.serve_forever()


if __name__ == "__main__":
    main()
