"""Published sets, downloaded from a mirror in a local folder."""

import hashlib
import json
import zipfile
from dataclasses import replace

import pytest

from ragcun_cli.pipeline.data import beir, sources
from ragcun_cli.pipeline.data.sources import Published


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder with the zip of a small set that the registry knows; the real host is nowhere."""
    folder = tmp_path / "zips"
    beir.write(
        folder / "small",
        corpus={f"p{i}": f"passage {i}" for i in range(9)},
        queries={f"q{i}": f"query {i}" for i in range(4)},
        qrels={
            "train": {"q3": {"p3": 1}},
            "test": {f"q{i}": {f"p{i}": 1, f"p{i + 3}": 0} for i in range(3)},
        },
    )
    archive = folder / "small.zip"
    with zipfile.ZipFile(archive, "w") as box:
        for file in sorted((folder / "small").rglob("*")):
            box.write(file, file.relative_to(folder))
    raw = archive.read_bytes()
    small = Published(
        "a small set",
        passages=9,
        queries=3,
        relevant_pairs=3,
        train_queries=1,
        zip_bytes=len(raw),
        zip_md5=hashlib.md5(raw).hexdigest(),
    )
    locked = Published("behind a door", 5, 5, obtain="a key")
    monkeypatch.setattr(sources, "BEIR", {"small": small, "locked": locked})
    monkeypatch.setattr("ragcun_cli.pipeline.data.published.HOST", f"{folder.as_uri()}/no/{{name}}")
    return folder


def test_a_published_set_is_downloaded_checked_and_not_brought_twice(ragcun, mirror, tmp_path):
    command = ("data", "get", "small", "--mirror", mirror.as_uri(), "-w", tmp_path / "ws", "--json")
    outcome = ragcun(*command)
    assert outcome.code == 0, outcome.err
    counts = json.loads(outcome.out)["small"]
    assert (counts["passages"], counts["judged"]) == (9, {"train": 1, "test": 3})
    folder = tmp_path / "ws/data/datasets/small"
    assert (folder / "corpus.jsonl").read_bytes() == (mirror / "small/corpus.jsonl").read_bytes()
    assert not list((tmp_path / "ws/data/downloads").glob("small.zip*"))
    (mirror / "small.zip").unlink()
    assert ragcun(*command).code == 0
    assert ragcun("data", "verify", "small", "-w", tmp_path / "ws").code == 0


def test_a_set_that_is_not_the_published_one_is_refused(ragcun, mirror, tmp_path, monkeypatch):
    changed = {"small": replace(sources.BEIR["small"], passages=10, relevant_pairs=7)}
    monkeypatch.setattr(sources, "BEIR", changed)
    command = ("data", "get", "small", "--mirror", mirror.as_uri(), "-w", tmp_path / "ws")
    outcome = ragcun(*command)
    assert outcome.code == 2
    assert "'small' is not the published set: 9 passages, not 10" in outcome.err
    assert "3 relevant pairs in test, not 7" in outcome.err
    assert not (tmp_path / "ws/data/datasets/small").exists()


def test_a_zip_with_another_checksum_is_refused(ragcun, mirror, tmp_path):
    raw = bytearray((mirror / "small.zip").read_bytes())
    raw[100] ^= 1
    (mirror / "small.zip").write_bytes(bytes(raw))
    command = ("data", "get", "small", "--mirror", mirror.as_uri(), "-w", tmp_path / "ws")
    outcome = ragcun(*command)
    assert outcome.code == 2
    assert "small" in outcome.err
    assert "md5" in outcome.err
    assert not (tmp_path / "ws/data/datasets/small").exists()


def test_of_a_group_what_cannot_be_had_is_said_and_the_rest_is_brought(ragcun, mirror, tmp_path):
    command = ("data", "get", "all", "--mirror", mirror.as_uri(), "-w", tmp_path / "ws")
    outcome = ragcun(*command)
    assert outcome.code == 0
    assert "not available: locked" in outcome.err
    assert "small" in outcome.out


@pytest.mark.parametrize(
    ("name", "message"),
    [("locked", "needs a key"), ("smal", "no published data set 'smal'; these are: small, locked")],
)
def test_a_named_set_that_cannot_be_had_is_an_error(ragcun, mirror, tmp_path, name, message):
    outcome = ragcun("data", "get", name, "-w", tmp_path / "ws")
    assert outcome.code == 2
    assert message in outcome.err


def test_the_list_says_what_a_download_weighs(ragcun, mirror, tmp_path):
    outcome = ragcun("data", "list", "-w", tmp_path / "ws")
    assert outcome.code == 0
    assert "not here; 0 MB" in outcome.out
    assert "not here; needs a licence" in outcome.out


def test_more_than_a_gigabyte_is_asked_about(ragcun, mirror, tmp_path, monkeypatch):
    large = {"small": replace(sources.BEIR["small"], zip_bytes=2_000_000_000)}
    monkeypatch.setattr(sources, "BEIR", large)
    outcome = ragcun("data", "get", "small", "-w", tmp_path / "ws")
    assert outcome.code == 2
    assert "1 sets, 2.0 GB to download. Go on?" in outcome.err
    assert "the same command with --yes" in outcome.err
