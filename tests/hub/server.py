"""A server on loopback that speaks as much of the Hub's protocol as reading models needs, and keeps account of it.

Small files are answered at once, large ones (weights, tokenizer.json) by a redirect to a second server on
another host name and port, as the Hub redirects to its CDN. Knows nothing of Lamina.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .uploads import Uploads

PIECE = 1 << 16


@dataclass(frozen=True)
class Content:
    """A file of the Hub: some bytes, then zeros up to `size`, so that a model of any size costs nothing."""

    head: bytes
    size: int
    large: bool

    def part(self, first: int, last: int) -> bytes:
        found = self.head[first : last + 1]
        return found + bytes(last + 1 - first - len(found))

    @cached_property
    def digest(self) -> str:
        """What the Hub calls it by. Of a file of zeros it is made up: nothing can be verified that never arrives."""
        if self.large:
            return hashlib.sha256(
                self.head + str(self.size - len(self.head)).encode() * (self.size > len(self.head))
            ).hexdigest()
        return hashlib.sha1(b"blob %d\0" % self.size + self.head).hexdigest()

    @property
    def data_start(self) -> int:
        """Where tensors begin, in a safetensors file."""
        return 8 + int.from_bytes(self.head[:8], "little")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    token: str | None
    on_cdn: bool
    agent: str = ""


@dataclass
class Repo:
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None  # without it, the model is not there: private


@dataclass
class Faults:
    """What goes wrong, by file name. Each entry of a list is used up by one answer."""

    cut_after: dict[str, list[int]] = field(default_factory=dict)  # the connection ends after so many bytes
    short: dict[str, list[int]] = field(default_factory=dict)  # a whole answer, of so many bytes only
    status: dict[str, list[int]] = field(default_factory=dict)
    delay: dict[str, float] = field(default_factory=dict)  # seconds before the answer, every time
    stall_after: dict[str, list[int]] = field(default_factory=dict)  # so many bytes come, and no more
    corrupt: set[str] = field(default_factory=set)  # one byte is another one
    no_ranges: bool = False
    no_blobs: bool = False  # the listing has names alone
    html: bool = False  # a captive portal answers


class HubServer:
    """Two servers that run until `stop`, and what was asked of them."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults = Faults()
        self.uploads = Uploads()
        self.requests: list[Request] = []
        self.sent: list[tuple[str, int, int]] = []  # file name, first byte, number of bytes
        self._account = threading.Lock()
        self._stopped = False
        self.stalled = threading.Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                hub._answer(self)

            def do_HEAD(self) -> None:
                hub._answer(self)

            def do_POST(self) -> None:
                hub._receive(self)

            def do_PUT(self) -> None:
                hub._receive(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._hub, self._cdn = (ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2))
        for server in (self._hub, self._cdn):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._hub.server_port}"

    def stop(self) -> None:
        self._stopped = True
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()

    def add(self, repo: str, folder: Path | Mapping[str, Content], ref: str = "main") -> str:
        """A commit of a model, from a folder; its id."""
        if isinstance(folder, Path):
            files = {path.name: _content(path.name, path.read_bytes()) for path in sorted(folder.iterdir())}
        else:
            files = dict(folder)
        commit = hashlib.sha1(repr([(name, each.digest) for name, each in files.items()]).encode()).hexdigest()
        self.repos.setdefault(repo, Repo()).commits[commit] = files
        self.repos[repo].refs[ref] = commit
        return commit

    def bytes_sent(self, name: str = "") -> int:
        with self._account:
            return sum(count for file, _, count in self.sent if file.endswith(name))

    def tensor_bytes_sent(self) -> int:
        """Bytes of tensors, of all safetensors files."""
        starts = {
            name: content.data_start
            for repo in self.repos.values()
            for files in repo.commits.values()
            for name, content in files.items()
            if name.endswith(".safetensors")
        }
        with self._account:
            return sum(
                max(0, first + count - max(first, starts[name])) for name, first, count in self.sent if name in starts
            )

    def forget(self) -> None:
        """Begin a new account."""
        with self._account:
            self.requests.clear()
            self.sent.clear()

    def content(self, name: str, raw: bytes) -> Content:
        """A file as the Hub keeps it."""
        return _content(name, raw)

    # answers

    def _receive(self, http: BaseHTTPRequestHandler) -> None:
        path, token = unquote(urlsplit(http.path).path), http.headers.get("Authorization")
        with self._account:
            self.requests.append(Request(http.command, path, None, token, False, http.headers.get("User-Agent", "")))
        status, answer = self.uploads.answer(self, http, path, token)
        code = {"X-Error-Code": "RepoNotFound"} if status == 404 else {}
        body = answer if isinstance(answer, dict) else {"error": answer}
        _send(http, status, {"Content-Type": "application/json", **code}, json.dumps(body).encode())

    def _answer(self, http: BaseHTTPRequestHandler) -> None:
        if self._stopped:  # on a connection that was open before
            http.close_connection = True
            return
        path, token = unquote(urlsplit(http.path).path), http.headers.get("Authorization")
        on_cdn = http.server is self._cdn
        with self._account:
            agent = http.headers.get("User-Agent", "")
            self.requests.append(Request(http.command, path, http.headers.get("Range"), token, on_cdn, agent))
        try:
            if self.faults.html:
                _send(http, 200, {"Content-Type": "text/html"}, b"<html>Log in to the hotel's network</html>")
            elif on_cdn:
                self._send_file(http, *self._by_digest(path))
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
                self._listing(http, found[1], found[2] or "main", token)
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                self._tree(http, found[1], found[2])
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._file(http, found[1], found[2], found[3], token)
            else:
                _refuse(http, 404, "")
        except (BrokenPipeError, ConnectionResetError):
            http.close_connection = True  # the client has what it wanted

    def _listing(self, http: BaseHTTPRequestHandler, name: str, revision: str, token: str | None) -> None:
        time.sleep(self.faults.delay.get("listing", 0))
        if status := _next(self.faults.status, "listing"):
            return _refuse(http, status, "")
        if (repo := self._visible(name, token)) is None:
            return _refuse(http, 401 if token is None else 404, "RepoNotFound")
        if (commit := repo.refs.get(revision, revision)) not in repo.commits:
            return _refuse(http, 404, "RevisionNotFound")
        with_blobs = not self.faults.no_blobs and "blobs" in parse_qs(urlsplit(http.path).query)
        siblings = [_sibling(file, content, with_blobs) for file, content in repo.commits[commit].items()]
        answer = {
            "id": name,
            "sha": commit,
            "private": repo.token is not None,
            "gated": repo.gated,
            "siblings": siblings,
        }
        return _send(http, 200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _tree(self, http: BaseHTTPRequestHandler, name: str, commit: str) -> None:
        """The other kind of listing, which huggingface_hub asks for before it fetches a whole model."""
        repo = self.repos[name]
        files = repo.commits[repo.refs.get(commit, commit)]
        siblings = [_sibling(file, content, True) for file, content in files.items()]
        entries = [
            {"type": "file", "path": each.pop("rfilename"), "oid": each.pop("blobId"), **each} for each in siblings
        ]
        for each in entries:
            if "lfs" in each:
                each["lfs"]["oid"] = each["lfs"].pop("sha256")
        _send(http, 200, {"Content-Type": "application/json"}, json.dumps(entries).encode())

    def _file(self, http: BaseHTTPRequestHandler, name: str, revision: str, file: str, token: str | None) -> None:
        time.sleep(self.faults.delay.get(file, 0))
        if status := _next(self.faults.status, file):
            return _refuse(http, status, "")
        if (repo := self._visible(name, token)) is None:
            return _refuse(http, 401 if token is None else 404, "RepoNotFound")
        if repo.gated and token != "Bearer accepted":
            return _refuse(http, 401 if token is None else 403, "GatedRepo")
        if (commit := repo.refs.get(revision, revision)) not in repo.commits:
            return _refuse(http, 404, "RevisionNotFound")
        if (content := repo.commits[commit].get(file)) is None:
            return _refuse(http, 404, "EntryNotFound", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{content.digest}"'}
        if not content.large:
            return self._send_file(http, file, content, headers)
        headers |= {
            "X-Linked-ETag": f'"{content.digest}"',
            "X-Linked-Size": str(content.size),
            "Location": f"http://localhost:{self._cdn.server_port}/{content.digest}/{file}",
        }
        return _send(http, 302, headers, b"")

    def _send_file(
        self, http: BaseHTTPRequestHandler, name: str, content: Content, headers: Mapping[str, str] = {}
    ) -> None:
        first, last, status = 0, content.size - 1, 200
        headers = {**headers, "Accept-Ranges": "bytes"}
        if (wanted := http.headers.get("Range")) and not self.faults.no_ranges:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
            assert found, wanted
            first, last = int(found[1]), min(last, int(found[2] or last))
            if first > last:
                return _send(http, 416, {"Content-Range": f"bytes */{content.size}"}, b"")
            status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{content.size}"
        stall = _next(self.faults.stall_after, name)
        stop_at = first + (stall or _next(self.faults.cut_after, name) or last + 1 - first)
        if limit := _next(self.faults.short, name):
            last = min(last, first + limit - 1)
        http.send_response(status)
        for key, value in {**headers, "Content-Length": str(last + 1 - first)}.items():
            http.send_header(key, value)
        http.end_headers()
        if http.command == "HEAD":
            return None
        for start in range(first, last + 1, PIECE):
            piece = content.part(start, min(start + PIECE, last + 1, stop_at) - 1)
            if name in self.faults.corrupt and start == first and piece:
                piece = piece[:-1] + bytes([piece[-1] ^ 1])
            with self._account:
                self.sent.append((name, start, len(piece)))
            http.wfile.write(piece)
            if start + len(piece) >= stop_at and stop_at <= last:
                http.wfile.flush()
                if stall:
                    self.stalled.set()
                    time.sleep(30)
                http.close_connection = True
                return None
        return None

    def _visible(self, name: str, token: str | None) -> Repo | None:
        repo = self.repos.get(name)
        return repo if repo and repo.token in (None, (token or "").removeprefix("Bearer ")) else None

    def _by_digest(self, path: str) -> tuple[str, Content]:
        _, digest, file = path.split("/")
        found = (files for repo in self.repos.values() for files in repo.commits.values())
        return next((file, files[file]) for files in found if file in files and files[file].digest == digest)


def _content(name: str, raw: bytes) -> Content:
    return Content(raw, len(raw), large=name.endswith((".safetensors", ".bin")) or name == "tokenizer.json")


def _sibling(name: str, content: Content, with_blobs: bool) -> dict[str, Any]:
    if not with_blobs:
        return {"rfilename": name}
    lfs = {"sha256": content.digest, "size": content.size, "pointerSize": 134}
    blob = content.digest if not content.large else "0" * 40
    return {"rfilename": name, "size": content.size, "blobId": blob, **({"lfs": lfs} if content.large else {})}


def _next(faults: Mapping[str, list[int]], name: str) -> int:
    return faults[name].pop(0) if faults.get(name) else 0


def _refuse(http: BaseHTTPRequestHandler, status: int, code: str, headers: Mapping[str, str] = {}) -> None:
    _send(http, status, {**headers, "X-Error-Code": code, "X-Error-Message": code}, b'{"error": "no"}')


def _send(http: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], body: bytes) -> None:
    http.send_response(status)
    for key, value in {**headers, "Content-Length": str(len(body))}.items():
        http.send_header(key, value)
    http.end_headers()
    if http.command != "HEAD":
        http.wfile.write(body)
