import base64
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
    """The answers of the Hub that downloads ask for, about what was published here, and uploads.

    ``faults`` says what it does instead of giving a file: give other bytes, answer with a status,
    ``"cut"`` the connection in the middle of the file or ``"drop"`` it before the answer.

    ``commits`` are what was pushed: the message, and name -> content. Files of weights come as the
    Hub takes large ones, the others within the commit.
    """

    def __init__(self):
        self.asked = []
        self.faults = {}
        self.repositories = set()
        self.answers = {}
        self.created, self.tokens, self.large, self.commits = [], set(), {}, []
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

    def do_POST(self):
        hub, path = self.server.hub, self.path.partition("?")[0]
        hub.asked.append(path)
        hub.tokens.add(self.headers.get("Authorization"))
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if (fault := hub.faults.get(path)) == "drop":
            return
        if fault is not None:
            self.send_response(fault)
            self.end_headers()
            answer = {"errors": [{"message": "it was refused"}], "url": f"{hub.endpoint}/is/there"}
            self.wfile.write(json.dumps(answer).encode())
            return
        answer = next(of for end, of in ANSWERS.items() if path.endswith(end))
        self.give(json.dumps(answer(hub, path, content)).encode(), cut=False)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.hub.large[self.path.rpartition("/")[2]] = content
        self.give(b"", cut=False)

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
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *arguments):
        pass


def create(hub, path, content):
    hub.created.append(json.loads(content))
    return {"url": f"{hub.endpoint}/{hub.created[-1]['organization']}/{hub.created[-1]['name']}"}


def how_to_upload(hub, path, content):
    names = [file["path"] for file in json.loads(content)["files"]]
    modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in names}
    return {
        "files": [
            {"path": name, "uploadMode": mode, "shouldIgnore": False}
            for name, mode in modes.items()
        ]
    }


def where_to_upload(hub, path, content):
    objects = json.loads(content)["objects"]
    for one in objects:
        one["actions"] = {"upload": {"href": f"{hub.endpoint}/upload/{one['oid']}"}}
    return {"transfer": "basic", "objects": objects}


def commit(hub, path, content):
    lines = [json.loads(line) for line in content.splitlines()]
    pushed = {}
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            pushed[value["path"]] = base64.b64decode(value["content"])
        if line["key"] == "lfsFile":
            pushed[value["path"]] = hub.large[value["oid"]]
    hub.commits.append((lines[0]["value"]["summary"], pushed))
    name = path.removeprefix("/api/models/").removesuffix("/commit/main")
    return {"commitUrl": f"{hub.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT}


ANSWERS = {
    "/api/repos/create": create,
    "/api/validate-yaml": lambda hub, path, content: {"errors": [], "warnings": []},
    "/preupload/main": how_to_upload,
    "/info/lfs/objects/batch": where_to_upload,
    "/commit/main": commit,
}
"""How the path of an upload ends -> what the Hub answers."""
