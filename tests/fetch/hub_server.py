"""A server that speaks enough of the hub's protocol, and misbehaves where it is told to."""

import contextlib
import hashlib
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Teacher, WeightSource

OLD, NEW = "a" * 40, "b" * 40  # commits


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Behaviour:
    """What a path answers: bytes, or a status; `cuts` break off the next answers after so many bytes each."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    etag: bool = True
    busy: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    hold: threading.Event | None = None  # waited for after the first cut instead of closing


class Server(http.server.ThreadingHTTPServer):
    """Files by path, and a log of what was asked."""

    daemon_threads = True

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.files: dict[str, Behaviour] = {}
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        """The address of its root."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def serve(self, path: str, content: bytes = b"", **behaviour: Any) -> str:
        """Put a file up, or replace it; gives its address."""
        self.files[path] = Behaviour(content, **behaviour)
        return self.url + path

    def serve_hub(self, repository: str, content: bytes, commit: str = OLD, **behaviour: Any) -> Behaviour:
        """Put `model.safetensors` of a repository up, as `main` and at a commit; its bytes elsewhere."""
        digest = sha256(content)
        bytes_at = f"/bytes/{repository}/{digest}"
        self.serve(bytes_at, content, **behaviour)
        facts = {
            "X-Repo-Commit": commit,
            "X-Linked-ETag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"http://localhost:{self.server_port}{bytes_at}",
        }
        for revision in ("main", commit):
            self.serve(f"/{repository}/resolve/{revision}/model.safetensors", status=302, headers=facts)
        return self.files[bytes_at]

    def gets(self, path: str = "") -> list[Asked]:
        """The requests for content, under a path."""
        return [one for one in self.asked if one.method == "GET" and one.path.startswith(path)]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers HEAD and GET."""

    server: Server

    def handle(self) -> None:
        """Let whoever does not trust us hang up."""
        with contextlib.suppress(ssl.SSLError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Say nothing: the log is `Server.asked`."""

    def do_HEAD(self) -> None:
        """Answer without content."""
        self._answer()

    def do_GET(self) -> None:
        """Answer with content."""
        self._answer()

    def _answer(self) -> None:
        self.server.asked.append(
            Asked(self.command, self.path, {name.title(): value for name, value in self.headers.items()})
        )
        file = self.server.files.get(self.path, Behaviour(status=404))
        if file.busy:
            self._head(file.busy.pop(0), file.headers)
        elif file.status != 200:
            self._head(file.status, file.headers)
        else:
            self._send(file)

    def _send(self, file: Behaviour) -> None:
        etag = f'"{sha256(file.content)[:16]}"' if file.etag else ""
        asked = self.headers.get("Range", "") if file.ranges else ""
        version = etag or file.headers.get("Last-Modified", "")
        if self.headers.get("If-Range", version) != version:
            asked = ""
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(file.content) > 0:
            self._head(416, {"Content-Range": f"bytes */{len(file.content)}"})
            return
        sent = file.content[start:]
        headers = {"ETag": etag} if etag else {}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(file.content) - 1}/{len(file.content)}"
        self._head(206 if asked else 200, {**headers, **file.headers}, len(sent))
        if self.command == "GET":
            self._write(file, sent)

    def _write(self, file: Behaviour, sent: bytes) -> None:
        cut = file.cuts.pop(0) if file.cuts else None
        try:
            self.wfile.write(sent[:cut])
            self.wfile.flush()
            if cut is not None and file.hold:
                file.hold.wait(60)
        except OSError:
            pass  # whoever asked was killed

    def _head(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True


@contextmanager
def serving(certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A server of this machine, on a free port; one of https with a certificate and its key."""
    server = Server(certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def sha256(content: bytes) -> str:
    """Hash bytes."""
    return hashlib.sha256(content).hexdigest()


def until_arrived(folder: Path, size: int) -> None:
    """Wait until that many bytes of a download lie under a folder."""
    until = time.monotonic() + 60
    while not (parts := list(folder.rglob("*.part"))) or parts[0].stat().st_size < size:
        assert time.monotonic() < until, "nothing arrived"
        time.sleep(0.01)


def weights(seed: int, megabytes: float = 0.1) -> bytes:
    """The content of a real safetensors file."""
    values = np.random.default_rng(seed).standard_normal(int(megabytes * 2**18)).astype(np.float32)
    return save({"head.weight": values})


def teacher_at(location: str | None, sha256: str | None = None) -> Teacher:
    """DeiT-Ti, its weights at a location of ours."""
    source = WeightSource(backend="timm", model="deit_tiny_patch16_224", location=location, sha256=sha256)
    return TEACHERS.get("deit/ti").model_copy(update={"sources": (source,)})


# Fetches what each line asks for and answers in a line, as many as come.
FETCHER = """
import json, os, sys
from pathlib import Path
from vitkd_bench.fetch import WeightCache, patience
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import VitkdError, WeightSource
patience.PAUSE = 0.01
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    os.environ["VITKD_OFFLINE"] = asked.get("offline", "")
    source = WeightSource(backend="timm", model="x", location=asked["location"])
    teacher = TEACHERS.get("deit/ti").model_copy(update={"sources": (source,)})
    try:
        found = WeightCache(Path(asked["cache"])).fetch(teacher, accept_new_hash=asked.get("accept", False))
        said = {"path": str(found.path), "sha256": found.sha256, "revision": found.revision}
    except VitkdError as error:
        said = {"code": error.exit_code, "error": str(error)}
    print(json.dumps(said), flush=True)
"""


class Fetcher:
    """A process of its own, in which huggingface_hub reads the environment anew."""

    def __init__(self, **environment: str) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", FETCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**own, **environment},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, location: str, cache: Path, **options: object) -> None:
        """Begin to fetch."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"location": location, "cache": str(cache), **options}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What came of it."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def fetch(self, location: str, cache: Path, **options: object) -> dict[str, Any]:
        """Fetch, and wait for the outcome."""
        self.ask(location, cache, **options)
        return self.answer()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.communicate()
