"""A model hub on loopback: just enough of its protocol for the clients of `huggingface_hub` and `datasets`."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    repositories: dict[tuple[str, str], Path]

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._answer(body=True, posted=self.rfile.read(length))

    def _answer(self, *, body: bool, posted: bytes = b"") -> None:
        path = unquote(urlparse(self.path).path).strip("/").split("/")
        api = path[0] == "api"
        path = path[1:] if api else path
        kind = path[0] if path[0] in ("models", "datasets") else "models"
        path = path[1:] if path[0] in ("models", "datasets") else path
        directory = self.repositories.get((kind, "/".join(path[:2])))
        if directory is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif api:
            self._send(200, json.dumps(self._metadata(directory, path[2:], posted)).encode(), {}, body=body)
        else:
            self._file(directory / "/".join(path[4:]), _commit(path), body=body)

    def _metadata(self, directory: Path, what: list[str], posted: bytes) -> Any:
        files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
        entries = [_entry(path, directory) for path in files]
        if what and what[0] == "tree":
            return entries
        if what and what[0] == "paths-info":
            wanted = json.loads(posted)["paths"] if posted.startswith(b"{") else []
            return [e for e in entries if e["path"] in wanted]
        siblings = [{"rfilename": e["path"]} for e in entries]
        return {
            "id": "repository",
            "sha": _commit(what),
            "siblings": siblings,
            "private": False,
            "tags": [],
            "downloads": 0,
        }

    def _file(self, path: Path, commit: str, *, body: bool) -> None:
        if not path.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, body=body)
            return
        content = path.read_bytes()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "none"}
        self._send(200, content, headers, body=body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def _commit(path: list[str]) -> str:
    """The commit that an address names, or that of every branch."""
    return next((part for part in path if re.fullmatch("[0-9a-f]{40}", part)), COMMIT)


def _entry(path: Path, directory: Path) -> dict[str, Any]:
    content = path.read_bytes()
    name = str(path.relative_to(directory))
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def serving(repositories: dict[tuple[str, str], Path]) -> Iterator[str]:
    """Serve local directories as repositories, `{("models", "openai/whisper-tiny"): path}`; yields the endpoint."""
    handler = type("Hub", (_Hub,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
