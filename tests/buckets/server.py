"""A Google Cloud Storage for tests, in memory: what gcsfs, tensorstore and array_record ask of its JSON API."""

from __future__ import annotations

import base64
import itertools
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import google_crc32c

BUCKET = "bucket"
OBJECTS = f"/storage/v1/b/{BUCKET}/o"
_TIME = "2026-01-01T00:00:00.000Z"


class Object(NamedTuple):
    """Bytes under a name; every write of a name has a generation of its own."""

    content: bytes
    generation: int


class Store:
    """The objects of the one bucket."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, str] = {}  # names of resumable uploads that have begun
        self.lock = threading.Lock()
        self.count = itertools.count(1)

    def put(self, name: str, content: bytes, query: dict[str, str]) -> dict[str, Any] | None:
        """What describes the new object; None if a precondition does not hold."""
        with self.lock:
            if not self.allows(name, query):
                return None
            self.objects[name] = Object(content, next(self.count))
            return self.describe(name)

    def delete(self, name: str, query: dict[str, str]) -> int:
        """The HTTP status."""
        with self.lock:
            if name not in self.objects:
                return 404
            if not self.allows(name, query):
                return 412
            del self.objects[name]
            return 204

    def allows(self, name: str, query: dict[str, str]) -> bool:
        """Whether the object is (ifGenerationMatch) of the generation asked for, 0 where there is none."""
        current = self.objects[name].generation if name in self.objects else 0
        return int(query.get("ifGenerationMatch", current)) == current

    def describe(self, name: str) -> dict[str, Any]:
        """The object's resource."""
        content, generation = self.objects[name]
        crc = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
        about = {"kind": "storage#object", "name": name, "bucket": BUCKET, "crc32c": crc, "size": str(len(content))}
        return about | {"generation": str(generation), "metageneration": "1", "timeCreated": _TIME, "updated": _TIME}

    def list(self, query: dict[str, str]) -> dict[str, Any]:
        """Objects and, with a delimiter, the folders between them."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start, end = query.get("startOffset", ""), query.get("endOffset", "\U0010ffff")
        items, folders = [], set()
        with self.lock:
            for name in sorted(self.objects):
                if not (name.startswith(prefix) and start <= name < end):
                    continue
                head, cut, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else (name, "", "")
                if cut:
                    folders.add(prefix + head + cut)
                else:
                    items.append(self.describe(name))
        limit = int(query.get("maxResults", 1000))
        assert len(items) <= limit or limit == 1, "no test needs a second page"
        return {"kind": "storage#objects", "items": items[:limit], "prefixes": sorted(folders)}


class Handler(BaseHTTPRequestHandler):
    """Answers requests about `self.server.store`."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        """Describe the bucket or an object, list, or read."""
        path, query = self._asked()
        store = self.server.store
        if path == f"/storage/v1/b/{BUCKET}":
            self._json({"kind": "storage#bucket", "name": BUCKET, "id": BUCKET})
        elif path == OBJECTS:
            self._json(store.list(query))
        elif name := _object(path):
            found = store.objects.get(name)
            if found is None:
                self._answer(404, b"no such object")
            elif int(query.get("ifGenerationNotMatch", -1)) == found.generation:
                self._answer(304)
            elif not store.allows(name, query):
                self._answer(412)
            elif query.get("alt") == "media":
                self._media(found)
            else:
                self._json(store.describe(name))
        else:
            self._answer(404)

    def do_DELETE(self) -> None:
        """Remove an object."""
        path, query = self._asked()
        self._answer(self.server.store.delete(_object(path), query))

    def do_POST(self) -> None:
        """Write or move an object."""
        path, query = self._asked()
        body = self._body()
        if path == f"/upload{OBJECTS}":
            self._upload(query, body)
        elif match := re.fullmatch(rf"{OBJECTS}/([^/]+)/moveTo/o/([^/]+)", path):
            self._move(*map(unquote, match.groups()), query)
        else:
            self._answer(404, b"no such method")

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        """The whole object in one request, or (resumable) its name in one and its content in the next."""
        store, name = self.server.store, query.get("name", "")
        if "upload_id" in query:
            name = store.uploads.pop(query["upload_id"])
        elif query["uploadType"] == "resumable":
            upload = str(next(store.count))
            store.uploads[upload] = name
            place = f"{self.server.url}/upload{OBJECTS}?uploadType=resumable&upload_id={upload}"
            self._answer(200, headers={"Location": place})
            return
        written = store.put(name, body, query)
        self._json(written) if written else self._answer(412)

    def _move(self, source: str, target: str, query: dict[str, str]) -> None:
        store = self.server.store
        written = store.put(target, store.objects[source].content, query)
        store.delete(source, {})
        self._json(written)

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, dict(parse_qsl(parts.query, keep_blank_values=True))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _media(self, found: Object) -> None:
        content, total = found.content, len(found.content)
        headers = {"x-goog-generation": str(found.generation), "x-goog-stored-content-length": str(total)}
        status = 200
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = match.groups()
            start = int(first) if first else max(0, total - int(last))
            end = min(total, int(last) + 1) if first and last else total
            if start >= total:
                self._answer(416, headers=headers)
                return
            content, status = content[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        self._answer(status, content, headers)

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _object(path: str) -> str:
    """The object's name in the path of a request about one, else ''."""
    match = re.fullmatch(rf"(?:/download)?{OBJECTS}/([^/]+)", path)
    return unquote(match.group(1)) if match else ""


class Server(ThreadingHTTPServer):
    """A bucket named `bucket` at `url` while the context lasts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = Store()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is no news; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def environment(self) -> dict[str, str]:
        """What sends a process's gcsfs, array_record and tensorstore here."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
        }

    def files(self, folder: str) -> list[str]:
        """Names below a folder, without it."""
        return sorted(name.removeprefix(f"{folder}/") for name in self.store.objects if name.startswith(f"{folder}/"))
