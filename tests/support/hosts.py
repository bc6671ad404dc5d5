"""A local HTTP server to test downloads against."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from chargen.corpus.sources import fetch


class Host(BaseHTTPRequestHandler):
    """Serve `content`, also from the middle on.

    Attributes:
        content: the bytes to serve.
        breaks_after: break the connection after this many bytes of a response.
        ranges: whether the server obeys the Range header.
        asked: the Range header of each request.
    """

    content = b""
    breaks_after: int | None = None
    ranges = True
    asked: list[str | None] = []  # noqa: RUF012  # shared by all requests; the fixture gives each test a new list

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        type(self).asked.append(span)
        begin = int(span.removeprefix("bytes=").rstrip("-")) if span and self.ranges else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        self.wfile.write(self.content[begin : self.breaks_after])

    def log_message(self, *_: object) -> None:
        pass


def fetch_from(host: type[Host], target: Path, **changes) -> Path:
    """Download the host's content to `target`; `changes` replace the expected size and SHA-256."""
    expected = {"size": len(host.content), "sha256": hashlib.sha256(host.content).hexdigest(), **changes}
    return fetch(host.url, target, **expected)
