"""What the server of these tests answers to one who sends: as much of the Hub's protocol as a folder needs.

Content is announced by its sha256, and sent only where the server does not have it; a commit then names what
it is made of. Knows nothing of Lamina.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .server import HubServer

LARGE = (".safetensors", ".bin", ".gguf", "tokenizer.json")


@dataclass
class Uploads:
    """Who may write, what arrived, and what goes wrong."""

    token: str = "writer"
    organizations: tuple[str, ...] = ("org",)
    private: set[str] = field(default_factory=set)
    arrived: list[str] = field(default_factory=list)  # digests, in the order in which contents came
    messages: list[str] = field(default_factory=list)  # of commits
    refuse: list[int] = field(default_factory=list)  # statuses for contents; each is used up by one
    _blobs: dict[str, bytes] = field(default_factory=dict)

    def answer(self, hub: HubServer, http: BaseHTTPRequestHandler, path: str, token: str | None) -> tuple[int, Any]:
        body = http.rfile.read(int(http.headers.get("Content-Length") or 0))
        if http.command == "PUT" and (found := re.fullmatch(r"/lfs/([0-9a-f]{64})", path)):
            return self._content(found[1], body)
        if token != f"Bearer {self.token}":
            return 401, "no token that may write"
        if path == "/api/repos/create":
            return self._create(hub, json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"warnings": [], "errors": []}
        if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(hub, json.loads(body))
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/(.+)", path)
        if not found or (repo := hub.repos.get(found[1])) is None:
            return 404, "no such model"
        if found[2] == "branch":
            if found[3] in repo.refs:
                return 409, "this branch exists"
            repo.refs[found[3]] = repo.refs["main"]
            return 200, {}
        if found[2] == "preupload":
            return 200, {"files": [self._mode(each["path"]) for each in json.loads(body)["files"]]}
        return self._commit(hub, found[1], found[3], body)

    def _create(self, hub: HubServer, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] not in self.organizations:
            return 403, "not yours"
        if name in hub.repos:
            return 409, {"error": "this model exists", "url": f"{hub.endpoint}/{name}"}
        hub.add(name, {})
        if asked.get("visibility") == "private" or asked.get("private"):
            self.private.add(name)
        return 200, {"url": f"{hub.endpoint}/{name}", "id": name}

    def _mode(self, path: str) -> dict[str, Any]:
        return {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}

    def _batch(self, hub: HubServer, asked: dict[str, Any]) -> tuple[int, Any]:
        objects = []
        for each in asked["objects"]:
            answer = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self._blobs:
                answer["actions"] = {"upload": {"href": f"{hub.endpoint}/lfs/{each['oid']}"}}
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}

    def _content(self, digest: str, body: bytes) -> tuple[int, Any]:
        if self.refuse:
            return self.refuse.pop(0), "not now"
        assert hashlib.sha256(body).hexdigest() == digest
        self._blobs[digest] = body
        self.arrived.append(digest)
        return 200, {}

    def _commit(self, hub: HubServer, name: str, branch: str, body: bytes) -> tuple[int, Any]:
        repo = hub.repos[name]
        files = dict(repo.commits[repo.refs[branch]])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = hub.content(value["path"], base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.content(value["path"], self._blobs[value["oid"]])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = hub.add(name, files, branch)
        return 200, {"commitUrl": f"{hub.endpoint}/{name}/commit/{commit}", "commitOid": commit}
