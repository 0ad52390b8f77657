"""No password or token of an address in what is printed or kept."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hub_server import COMMIT
from huggingface_hub import constants

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.bring import download
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sources import PublishedSet

WORD, TOKEN = "hush4pass", "hush4token"


class Guarded(BaseHTTPRequestHandler):
    """Gives its file to those who know the password and the token, unless an act says otherwise."""

    def do_GET(self):
        server, address = self.server, urlsplit(self.path)
        server.asked.append(address.path)
        if address.path.startswith("/api/"):
            return self.send_error(503)
        login = base64.b64encode(f"me:{WORD}".encode()).decode()
        knows = self.headers.get("Authorization") == f"Basic {login}"
        if not knows or parse_qs(address.query).get("token") != [TOKEN]:
            return self.send_error(403)
        return (server.acts.pop(0) if server.acts else Guarded.give)(self)

    def give(self, stop=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("ETag", '"one"')
        self.end_headers()
        self.wfile.write(self.server.content[:stop])

    def cut(self):
        self.give(stop=100)

    def echo(self):
        self.send_error(404, f"no {self.server.address}{self.path}")

    def lead_away(self):
        self.send_response(302)
        self.send_header("Location", f"http://me:{WORD}@[::1/?token={TOKEN}")
        self.end_headers()

    def fail(self):
        self.send_error(503)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    """A server with a small set that the registry knows, and the address of its folder."""
    texts = {f"p{i}": f"passage {i}" for i in range(9)}
    judged = {"test": {"q0": {"p0": 1}}}
    beir.write_set(tmp_path / "x", corpus=texts, queries={"q0": "a query"}, qrels=judged)
    beir.export_set(tmp_path / "x", tmp_path / "zips/small")
    shutil.make_archive(tmp_path / "small", "zip", tmp_path / "zips", "small")
    known = PublishedSet("a small set", 9, 1, relevant_pairs=1, zip_bytes=1)
    monkeypatch.setattr(sources, "BEIR", {"small": known})
    patience = replace(download.PATIENT, sleep=lambda seconds: None)
    monkeypatch.setattr(download.fetch, "__kwdefaults__", {"patience": patience})
    monkeypatch.setenv("NO_PROXY", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    server.content = (tmp_path / "small.zip").read_bytes()
    server.acts, server.asked = [], []
    server.address = f"http://me:{WORD}@127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def seen(folder, outcome):
    """All that was printed and written."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    kept = b"".join(str(file).encode() + file.read_bytes() for file in files)
    return outcome.out + outcome.err + kept.decode(errors="replace")


def get(ragcun, folder, *mirrors):
    words = [word for mirror in mirrors for word in ("--mirror", mirror)]
    return ragcun("data", "get", "small", *words, "-w", folder)


def test_a_mirror_that_asks_for_a_password_and_a_token_gives_its_file(ragcun, guarded, tmp_path):
    outcome = get(ragcun, tmp_path / "ws", f"{guarded.address}/beir/?token={TOKEN}")
    assert outcome.code == 0, outcome.err
    assert guarded.asked == ["/beir/small.zip"]
    said = seen(tmp_path / "ws", outcome)
    assert f"127.0.0.1:{guarded.server_port}" in said  # the origin
    assert WORD not in said
    assert TOKEN not in said


def test_what_a_mirror_does_wrong_is_said_without_its_secrets(ragcun, guarded, tmp_path):
    mirror = f"{guarded.address}/beir?token={TOKEN}"
    guarded.acts += [Guarded.cut, Guarded.fail, Guarded.echo, Guarded.lead_away, *[Guarded.cut] * 9]
    others = [
        f"http://me:{WORD}@[::1?token={TOKEN}",
        f"me:{WORD}@127.0.0.1/beir?token={TOKEN}",
        f"ftp://me:{WORD}@127.0.0.1/beir?token={TOKEN}",
        f"http://me:{WORD}@127.0.0.1:1/beir?token={TOKEN}",
        f"http://me:{WORD}@a..b/?{TOKEN}",
        f"file:///me:{WORD}@nowhere?token={TOKEN}",
    ]
    outcome = get(ragcun, tmp_path / "ws", mirror, mirror, mirror, *others)
    assert outcome.code == 2
    assert "trying again" in outcome.err
    assert f"http://***@127.0.0.1:{guarded.server_port}/beir/small.zip?token=***: " in outcome.err
    assert list((tmp_path / "ws/data/downloads").glob("*.part.json"))
    said = seen(tmp_path / "ws", outcome)
    assert WORD not in said
    assert TOKEN not in said
    outcome = get(ragcun, tmp_path / "ws", mirror)
    assert outcome.code == 0, outcome.err


def test_a_mirror_of_the_hub_is_spoken_of_without_its_secrets(
    ragcun, guarded, tmp_path, monkeypatch
):
    known = replace(sources.BEIR["small"], hub={"": ("on-hub/small", COMMIT)})
    monkeypatch.setattr(sources, "BEIR", {"small": known})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", guarded.address)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    outcome = get(ragcun, tmp_path / "ws")
    assert outcome.code == 2
    assert f"the Hub did not give on-hub/small@{COMMIT}: Server error '503" in outcome.err
    assert WORD not in seen(tmp_path / "ws", outcome)


TYPED = ("run.json", "plan.json")
"""Hold a profile as it was typed: what a run is called follows from it, on any machine."""


@pytest.mark.parametrize(("base", "kept_as_typed"), [("~/model", ()), ("{home}/model", TYPED)])
def test_no_home_folder_and_no_token_is_printed_or_kept(
    smoke_workspace, tmp_path, base, kept_as_typed
):
    """All that a plan writes, its model and its workspace in the home, its secrets in `.env`."""
    home = tmp_path / "home of one"
    shutil.copytree(smoke_workspace / "data", home / "ws/data")
    shutil.copytree(smoke_workspace / "data/encoders/tiny", home / "model")
    secrets = ("hf_" + "a1b2c3d4e5", WORD, TOKEN, "wandb5secret")
    (home / ".env").write_text(
        f'HF_TOKEN={secrets[0]}\nWANDB_API_KEY="{secrets[3]}"\n"broken {WORD}\n'
        f"RAGCUN_MIRROR=http://me:{WORD}@127.0.0.1:1/beir?token={TOKEN}\nRAGCUN_WORKSPACE=ws\n"
    )
    command = [
        *(sys.executable, "-m", "ragcun_cli", "reproduce", "-p", "smoke", "--seed", "1"),
        *("--experiment", "with_isotropy", "--references", "untouched"),
        *("--set", f"encoder.base={base.format(home=home)}", "--yes"),
    ]
    told = {key: value for key, value in os.environ.items() if not key.startswith("RAGCUN_")}
    told |= {"HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=home, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "could not parse statement starting at line 3" in done.stderr
    found = {file: file.read_bytes() for file in (home / "ws").rglob("*") if file.is_file()}
    assert any(file.name == "report.html" for file in found)
    for secret in secrets:
        assert secret not in done.stdout + done.stderr
        assert not [file for file, raw in found.items() if secret.encode() in raw], secret
    assert str(home) not in done.stdout + done.stderr
    holding = {file.name for file, raw in found.items() if str(home).encode() in raw}
    assert holding == set(kept_as_typed)
    (manifest,) = (home / "ws").glob("runs/with_isotropy/*/seed-1/manifest.json")
    record = json.loads(manifest.read_text())["stages"]["train"]
    assert record["made_of"]["values"]["encoder"]["base"] == "~/model"
    assert record["provenance"]["command"].startswith("ragcun reproduce -p smoke --seed 1")
    assert record["provenance"]["started"] <= record["finished"]
    again = subprocess.run(command, cwd=home, env=told, capture_output=True, text=True, check=False)
    assert "nothing to do: all is current" in again.stderr
