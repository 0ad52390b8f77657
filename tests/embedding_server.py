"""A server of embeddings on a real socket, that may do anything to them on the way."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class EmbeddingServer:
    """Answers both forms with what ``embed`` makes of the texts and the name of a prompt.

    ``spoil`` takes an answer as JSON, and may change it; ``answers`` are whole ones instead: a
    status, a content type and a body.
    """

    def __init__(self, embed, *, spoil=lambda rows: rows, answer=None, models=(), wait=0.0):
        self.embed, self.spoil, self.answer = embed, spoil, answer
        self.models, self.wait = list(models), wait
        self.bodies, self.keys = [], set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.server.owner = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        owner = self.server.owner
        if owner.models:
            return self._give(200, "application/json", {"data": [{"id": m} for m in owner.models]})
        return self._give(404, "text/plain", b"no list")

    def do_POST(self):
        owner = self.server.owner
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        owner.bodies.append(body)
        owner.keys.add(self.headers.get("authorization"))
        time.sleep(owner.wait)
        if owner.answer is not None:
            return self._give(*owner.answer)
        if self.path == "/v1/embeddings":
            rows = owner.spoil(owner.embed(body["input"], None))
            if isinstance(rows, tuple):
                return self._give(*rows)
            data = [{"index": n, "embedding": row} for n, row in enumerate(rows)]
            return self._give(200, "application/json", {"data": data[::-1]})
        if self.path == "/embed":
            rows = owner.spoil(owner.embed(body["inputs"], body.get("prompt_name")))
            return self._give(200, "application/json", rows)
        return self._give(404, "text/plain", b"no such page")

    def _give(self, status, kind, content):
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)


@contextmanager
def serving(embed, **more):
    """``with serving(embed) as server:`` it runs, at ``server.url``."""
    server = EmbeddingServer(embed, **more)
    thread = threading.Thread(target=server.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
        thread.join()
