import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40


def files_of(folder):
    """Name -> content of the files of a folder."""
    found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class Hub:
    """The answers of the Hub that downloads ask for, about what was published here.

    ``faults`` says what it does instead of giving a file: give other bytes, answer with a status,
    ``"cut"`` the connection in the middle of the file or ``"drop"`` it before the answer.
    """

    def __init__(self):
        self.asked = []
        self.faults = {}
        self.repositories = set()
        self.answers = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def publish(self, name, files, *, data_set=False, commit=COMMIT, names=None):
        """Files by their names; the Hub lists them, or the names it is told to list."""
        kind, resolve = ("datasets", f"/datasets/{name}") if data_set else ("models", f"/{name}")
        api = f"/api/{kind}/{name}"
        listed = [(path, files.get(path, b"")) for path in (names or files)]
        tree = [
            {"type": "file", "path": path, "size": len(content), "oid": git_digest(content)}
            for path, content in listed
        ]
        siblings = [sibling(path, content) for path, content in listed]
        info = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
        self.answers[f"{api}/tree/{commit}"] = json.dumps(tree).encode()
        for revision in ("main", commit):
            self.answers[f"{api}/revision/{revision}"] = json.dumps(info).encode()
        for path, content in files.items():
            self.answers[f"{resolve}/resolve/{commit}/{path}"] = content
        self.repositories |= {f"{api}/", f"{resolve}/"}

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def git_digest(content):
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def sibling(path, content):
    """A file as the Hub lists it; the large ones, here the tables, with their sha256."""
    entry = {"rfilename": path, "size": len(content), "blobId": git_digest(content)}
    if path.endswith(".parquet"):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
    return entry


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        hub = self.server.hub
        path = self.path.partition("?")[0]
        hub.asked.append(path)
        content, fault = hub.answers.get(path), hub.faults.get(path)
        if fault == "drop":
            return
        if content is None or isinstance(fault, int):
            self.refuse(fault or 404, known=path.startswith(tuple(hub.repositories)))
        else:
            self.give(fault if isinstance(fault, bytes) else content, cut=fault == "cut")

    do_HEAD = do_GET

    def refuse(self, status, *, known):
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RevisionNotFound" if known else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give(self, content, *, cut):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *arguments):
        pass
