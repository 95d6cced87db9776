"""An HTTP server on loopback that serves one folder, and misbehaves as it is told."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """`folder`: what it serves. `faults`: for the next requests, one each, then it behaves.

    cut: ends after half of what it promised. long: promises ten bytes more than there are. short: promises ten bytes
    fewer. page: an HTML page. disguised: the same, called a file. busy: 503. gone: 404. foreign: a range that nobody
    asked for.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults: list[str] = []
        self.requests: list[tuple[str, str | None]] = []  # (path, its Range)
        self.ranges = True
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        fault = self.server.faults.pop(0) if self.server.faults else None
        file = self.server.folder / self.path.lstrip("/")
        if fault in ("page", "disguised"):
            kind = "text/html; charset=utf-8" if fault == "page" else "application/octet-stream"
            return self._send(200, b"<!DOCTYPE html><html>Please log in</html>", {"Content-Type": kind})
        if fault == "busy":
            return self._send(503, b"", {})
        if fault == "gone" or not file.is_file():
            return self._send(404, b"", {})
        content = file.read_bytes()
        tag = f'"{hash(content)}"'
        start, status = 0, 200
        headers = {"ETag": tag, "Content-Type": "application/octet-stream"}
        if wanted and self.server.ranges and self.headers.get("If-Range") == tag:
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
            shown = 0 if fault == "foreign" else start
            headers["Content-Range"] = f"bytes {shown}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        promised = len(body) + {"long": 10, "short": -10}.get(fault or "", 0)
        if fault == "cut":
            body = body[: len(body) // 2]
        return self._send(status, body, headers | {"Content-Length": str(promised)})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: int(headers.get("Content-Length", len(body)))])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass
