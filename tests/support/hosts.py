"""A local server that downloads are tried against."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from chargen.corpus.encoded import fetch


class Host(BaseHTTPRequestHandler):
    """Serves `content`, whole or from where the client is; can break off in the middle."""

    content = b""
    breaks_after: int | None = None
    ranges = True
    asked: list[str | None] = []  # noqa: RUF012  # one list, reset by the fixture

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


def get(host: type[Host], target: Path, **changes) -> Path:
    expected = {"size": len(host.content), "sha256": hashlib.sha256(host.content).hexdigest(), **changes}
    return fetch(host.url, target, **expected)
