"""What huggingface_hub asks of the hub's HTTP interface, in memory: snapshots, and commits of small files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """`repositories`: {ORG/NAME: {file: bytes}}. `requests`: every method and path so far."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Hub:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command == "POST":
            return self._post(path, body)
        if found := re.fullmatch(r"/api/models/(\w+/\w+)(/revision/\w+)?", path):
            files = self.server.repositories.get(found[1])
            if files is None:
                return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            return self._json({"id": found[1], "sha": COMMIT, "siblings": siblings})
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/tree/\w+", path):
            return self._json(
                [{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                 for name, content in self.server.repositories[found[1]].items()]
            )  # fmt: skip
        if found := re.fullmatch(r"/(\w+/\w+)/resolve/\w+/([\w.]+)", path):
            content = self.server.repositories[found[1]].get(found[2])
            if content is not None:
                tag = hashlib.sha256(content).hexdigest()
                return self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        return self._json({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})

    def _post(self, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            return self._json({"url": f"{self.server.address}/{name}", "id": name})
        name = "/".join(path.split("/")[3:5])
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            return self._json(
                {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]}
            )
        if path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.repositories[name][entry["value"]["path"]] = content
            address = f"{self.server.address}/{name}/commit/{COMMIT}"
            return self._json({"success": True, "commitOid": COMMIT, "commitUrl": address})
        return self._json({})

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
