"""Published sets, downloaded from a mirror in a local folder."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace

import pytest
from beir.datasets.data_loader import GenericDataLoader
from hub_server import COMMIT, Hub, files_of
from huggingface_hub import constants

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.data.sets.records import read_record
from ragcun_cli.pipeline.data.sources import Derived, PublishedSet


def write_beir(folder, corpus, queries, qrels):
    """A set in BEIR's layout."""
    scratch = folder.with_name(f".{folder.name}")
    beir.write_set(scratch, corpus=corpus, queries=queries, qrels=qrels)
    beir.export_set(scratch, folder)
    shutil.rmtree(scratch)


def pack(folder, archive):
    with zipfile.ZipFile(archive, "w") as box:
        for file in sorted(folder.rglob("*")):
            box.write(file, file.relative_to(folder.parent))


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder with zips of small sets that the registry knows; the real host is nowhere."""
    folder = tmp_path / "zips"
    passages = {f"p{i}": f"passage {i}" for i in range(9)}
    queries = {f"q{i}": f"query {i}" for i in range(4)}
    test = {f"q{i}": {f"p{i}": 1, f"p{i + 3}": 0} for i in range(3)}
    write_beir(folder / "small", passages, queries, {"train": {"q3": {"p3": 1}}, "test": test})
    write_beir(folder / "alike", passages | {"p9": "one more"}, queries, {"test": test})
    for number, forum in enumerate(("gis", "tex")):
        texts = {f"{i}": f"{forum} {i}" for i in range(5 + number)}
        judged = {f"{i}": {f"{i}": 1} for i in range(2 + number)}
        asked = {f"{i}": f"{forum} query {i}" for i in range(3)}
        write_beir(folder / "forums" / forum, texts, asked, {"test": judged})
    for name in ("small", "alike", "forums"):
        pack(folder / name, folder / f"{name}.zip")
    raw = (folder / "small.zip").read_bytes()
    small = PublishedSet(
        "a small set",
        passages=9,
        queries=3,
        relevant_pairs=3,
        train_queries=1,
        like="alike",
        zip_bytes=len(raw),
        zip_md5=hashlib.md5(raw).hexdigest(),
    )
    known = {
        "small": small,
        "alike": PublishedSet(
            "nearly the same", 10, 3, relevant_pairs=3, like="small", zip_bytes=1
        ),
        "forums": PublishedSet("two forums", 11, 5, forums=("gis", "tex"), zip_bytes=1),
        "locked": PublishedSet("behind a door", 5, 5, obtain="a key"),
    }
    monkeypatch.setattr(sources, "BEIR", known)
    monkeypatch.setattr(sources, "GATED", frozenset(["locked"]))
    monkeypatch.setattr(sources, "GROUPS", {"beir": list(known)})
    return folder


@pytest.fixture
def get(ragcun, mirror, tmp_path):
    def run(*names, **options):
        flags = [word for key, value in options.items() for word in (f"--{key}", value)]
        address = ("--mirror", mirror.as_uri())
        return ragcun("data", "get", *names, *address, *flags, "-w", tmp_path / "ws", "--json")

    return run


@pytest.fixture
def datasets(tmp_path):
    return tmp_path / "ws/data/datasets"


def official(monkeypatch, mirror):
    monkeypatch.setattr(sources, "HOST", f"{mirror.as_uri()}/{{name}}.zip")


def test_a_published_set_is_downloaded_checked_and_not_brought_twice(
    ragcun, get, mirror, tmp_path, datasets
):
    outcome = get("small")
    assert outcome.code == 0, outcome.err
    counts = json.loads(outcome.out)["small"]
    assert (counts["passages"], counts["judged"]) == (9, {"train": 1, "test": 3})
    assert (counts["origin"], counts["verified"]) == ("a local mirror", "counts")
    assert not list((tmp_path / "ws/data/downloads").glob("small*.zip*"))
    (mirror / "small.zip").unlink()
    assert get("small").code == 0
    assert ragcun("data", "verify", "small", "-w", tmp_path / "ws").code == 0


def test_what_was_got_is_exported_as_it_was_and_read_by_the_beir_package(
    ragcun, get, mirror, tmp_path
):
    get("small")
    assert ragcun("data", "export", "small", tmp_path / "out", "-w", tmp_path / "ws").code == 0
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels/train.tsv"):
        assert (tmp_path / "out" / name).read_bytes() == (mirror / "small" / name).read_bytes()
    corpus, queries, qrels = GenericDataLoader(str(tmp_path / "out")).load(split="test")
    assert (len(corpus), len(queries), len(qrels)) == (9, 3, 3)


def test_the_official_zip_has_to_have_its_md5(ragcun, mirror, tmp_path, monkeypatch):
    official(monkeypatch, mirror)
    command = ("data", "get", "small", "-w", tmp_path / "ws", "--json")
    outcome = ragcun(*command)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["small"]["verified"] == "md5, counts"
    raw = bytearray((mirror / "small.zip").read_bytes())
    raw[100] ^= 1
    (mirror / "small.zip").write_bytes(bytes(raw))
    outcome = ragcun(*command, "--force")
    assert outcome.code == 2
    assert "md5" in outcome.err


def test_a_zip_packed_anew_is_taken_from_a_mirror_for_its_counts(get, mirror):
    shutil.rmtree(mirror / "small/qrels")
    with zipfile.ZipFile(mirror / "small.zip", "a") as box:
        box.writestr("small/README", "packed again")
    assert get("small").code == 0


def test_a_damaged_zip_of_a_mirror_is_refused_and_the_next_address_is_asked(
    get, mirror, tmp_path, monkeypatch, datasets
):
    (tmp_path / "host").mkdir()
    shutil.copy(mirror / "small.zip", tmp_path / "host")
    raw = bytearray((mirror / "small.zip").read_bytes())
    raw[100] ^= 1
    (mirror / "small.zip").write_bytes(bytes(raw))
    outcome = get("small")
    assert outcome.code == 2
    assert "'small' could not be had" in outcome.err
    assert not (datasets / "small").exists()
    official(monkeypatch, tmp_path / "host")
    outcome = get("small")
    assert outcome.code == 0
    assert "a local mirror: " in outcome.err


def test_a_set_with_other_counts_is_refused_and_named_in_full(get, datasets, monkeypatch):
    changed = {"small": replace(sources.BEIR["small"], passages=10, relevant_pairs=7)}
    monkeypatch.setattr(sources, "BEIR", changed)
    outcome = get("small")
    assert outcome.code == 2
    assert "'small' is not the published set: 9 passages, not 10" in outcome.err
    assert "3 relevant pairs in test, not 7" in outcome.err
    assert not (datasets / "small").exists()
    assert not list(datasets.parent.glob("downloads/*.zip"))


def test_a_set_with_other_passages_is_refused_where_their_digest_is_known(get, monkeypatch):
    changed = {"small": replace(sources.BEIR["small"], passages_sha256="0" * 64)}
    monkeypatch.setattr(sources, "BEIR", changed)
    outcome = get("small")
    assert outcome.code == 2
    assert f"not {'0' * 64}" in outcome.err


def test_of_a_group_what_cannot_be_had_is_said_and_the_rest_is_brought(get):
    outcome = get("beir")
    assert outcome.code == 0, outcome.err
    assert "not available, left out: locked" in outcome.err
    assert set(json.loads(outcome.out)) == {"small", "alike", "forums"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("locked", "'locked' needs a key"),
        ("smal", "no data set 'smal' to get; did you mean 'small'?"),
        ("smal", "Hint: ragcun data get small; or ragcun data import FOLDER_OR_FILE --name smal"),
        ("elsewhere", "no data set 'elsewhere' to get; these are: small, alike, forums, locked"),
    ],
)
def test_a_named_set_that_cannot_be_had_is_an_error(get, name, message):
    outcome = get(name)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_published_set_that_was_imported_is_not_overwritten_by_a_download(
    ragcun, get, mirror, tmp_path, datasets
):
    words = ("-w", tmp_path / "ws")
    assert ragcun("data", "import", mirror / "small", "--name", "small", *words).code == 0
    assert get("small").code == 0  # it is here
    file = datasets / "small/queries.jsonl"
    file.write_text(file.read_text() + '{"_id": "more", "text": "by hand"}\n')
    outcome = get("small")
    assert outcome.code == 2
    assert "'small' would overwrite a set that was imported, which lies in" in outcome.err
    assert "ragcun data get small --force" in outcome.err
    assert "by hand" in file.read_text()
    address = ("--mirror", mirror.as_uri())
    assert ragcun("data", "get", "small", *address, "--force", *words).code == 0
    assert "by hand" not in file.read_text()


def test_a_licensed_set_is_imported_and_what_differs_is_said(ragcun, mirror, tmp_path):
    command = ("data", "import", mirror / "small", "--name", "locked", "-w", tmp_path / "ws")
    outcome = ragcun(*command)
    assert outcome.code == 0, outcome.err
    assert "not the counts that others publish: 9 passages, not 5" in outcome.err
    assert "here" in ragcun("data", "list", "-w", tmp_path / "ws").out
    public = ("data", "import", mirror / "alike", "--name", "small", "-w", tmp_path / "ws")
    assert "this is not the published 'small'" in ragcun(*public).err


def test_the_list_says_what_a_download_weighs_and_what_was_verified(ragcun, get, tmp_path):
    get("forums")
    rows = json.loads(ragcun("data", "list", "-w", tmp_path / "ws", "--json").out)
    states = {row["name"]: row["state"] for row in rows}
    assert states["small"] == "0 MB"
    assert states["locked"] == "licensed"
    assert states["forums"] == "here"
    assert {row["name"]: row["verified"] for row in rows}["forums"] == "counts"
    assert all(row["licence"] for row in rows if row["name"] in sources.BEIR)


def test_more_than_a_gigabyte_is_asked_about(ragcun, mirror, tmp_path, monkeypatch):
    large = {"small": replace(sources.BEIR["small"], zip_bytes=2_000_000_000)}
    monkeypatch.setattr(sources, "BEIR", large)
    outcome = ragcun("data", "get", "small", "-w", tmp_path / "ws")
    assert outcome.code == 2
    assert "2.0 GB to download. Go on?" in outcome.err
    assert "the same command with --yes" in outcome.err


@pytest.mark.parametrize("order", [("small", "alike"), ("alike", "small")])
def test_nearly_equal_corpora_are_stored_once_whichever_comes_first(
    ragcun, get, mirror, datasets, tmp_path, order
):
    assert get(*order).code == 0
    first, second = (datasets / name for name in order)
    assert not (first / "passages/lender.json").exists()
    assert (second / "passages/lender.json").exists()
    own = second / "passages/passages.arrow"
    assert own.exists() == (order[1] == "alike")  # the one passage that small lacks
    for name in order:
        assert ragcun("data", "verify", name, "-w", tmp_path / "ws").code == 0
        ragcun("data", "export", name, tmp_path / f"out-{name}", "-w", tmp_path / "ws")
        exported = tmp_path / f"out-{name}" / "corpus.jsonl"
        assert exported.read_bytes() == (mirror / name / "corpus.jsonl").read_bytes()
    shutil.rmtree(first)
    outcome = ragcun("data", "verify", order[1], "-w", tmp_path / "ws")
    assert outcome.code == 2
    assert f"kept with '{order[0]}', which is not here" in outcome.err
    assert get(order[1]).code == 0  # it is not current without its passages, and is got again
    assert ragcun("data", "verify", order[1], "-w", tmp_path / "ws").code == 0


def test_the_digest_of_passages_does_not_depend_on_who_keeps_them(get, datasets, tmp_path):
    get("small", "alike")
    lent = read_record(datasets / "alike")
    shutil.rmtree(datasets)
    get("alike")
    assert read_record(datasets / "alike") == lent


def test_a_set_of_several_forums_is_one_set(ragcun, get, mirror, datasets, tmp_path):
    outcome = get("forums")
    assert outcome.code == 0, outcome.err
    counts = json.loads(outcome.out)["forums"]
    assert (counts["passages"], counts["judged"]) == (11, {"test": 5})
    assert [len(Corpus.open(part)) for part in beir.parts(datasets / "forums")] == [5, 6]
    assert ragcun("data", "verify", "forums", "-w", tmp_path / "ws").code == 0
    ragcun("data", "export", "forums", tmp_path / "out", "-w", tmp_path / "ws")
    for forum in ("gis", "tex"):
        corpus, _, qrels = GenericDataLoader(str(tmp_path / "out" / forum)).load(split="test")
        assert corpus == GenericDataLoader(str(mirror / "forums" / forum)).load(split="test")[0]
        assert qrels
    taken = ("data", "import", mirror / "forums", "--name", "forums", "-w", tmp_path / "ws2")
    assert ragcun(*taken).code == 0


def test_sets_made_of_another_share_its_passages(
    ragcun, get, mirror, datasets, tmp_path, monkeypatch
):
    texts = {
        "queries": "q0\tquery zero\nq9\tnobody judged\n",
        "qrels": "q0 0 p1 3\nq0 0 p2 0\n",
    }
    files = {}
    for key, text in texts.items():
        (mirror / key).write_text(text)
        digest = hashlib.md5(text.encode()).hexdigest()
        files[key] = {"urls": [(mirror / key).as_uri()], "size": len(text), "md5": digest}
    derived = {
        "msmarco-select": Derived("to select on", 1, of="small", split="dev"),
        "trec-dl-2019": Derived("graded", 3, 6, of="small"),
        "trec-dl-2020": Derived("graded", 1, 2, of="small", files=files),
    }
    monkeypatch.setattr(sources, "DERIVED", derived)
    outcome = get(*derived)
    assert outcome.code == 0, outcome.err
    assert "will run first: data small" in outcome.err
    for name in derived:
        assert not (datasets / name / "passages/passages.arrow").exists()
        assert len(Corpus.open(datasets / name)) == 9
        assert ragcun("data", "verify", name, "-w", tmp_path / "ws").code == 0
    assert beir.read_queries(datasets / "trec-dl-2020") == {"q0": "query zero"}
    assert beir.read_qrels(datasets / "trec-dl-2020", "test") == {"q0": {"p1": 3, "p2": 0}}
    assert beir.read_qrels(datasets / "msmarco-select", "dev") == {"q3": {"p3": 1}}
    assert len(beir.read_qrels(datasets / "trec-dl-2019", "test")) == 3


def test_a_profile_or_names_but_not_both(ragcun, tmp_path):
    assert ragcun("data", "get", "-w", tmp_path).code == 2
    assert ragcun("data", "get", "scifact", "--profile", "smoke", "-w", tmp_path).code == 2


@pytest.fixture
def hub(mirror, monkeypatch):
    """A Hub that has the small set and the forums, in the place of the one on the network."""
    with Hub() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        for folder in ("small", "forums/gis", "forums/tex"):
            hub.publish(
                f"on-hub/{folder.replace('/', '-')}", files_of(mirror / folder), data_set=True
            )
        yield hub


def test_the_hub_is_asked_last_and_its_revision_is_recorded(
    ragcun, get, hub, tmp_path, monkeypatch, datasets
):
    on_hub = {"": ("on-hub/small", COMMIT)}
    parts = {forum: (f"on-hub/forums-{forum}", COMMIT) for forum in ("gis", "tex")}
    known = {
        "small": replace(sources.BEIR["small"], hub=on_hub),
        "forums": replace(sources.BEIR["forums"], hub=parts),
    }
    monkeypatch.setattr(sources, "BEIR", known)
    assert get("small").code == 0
    assert hub.asked == []
    outcome = ragcun("data", "get", "small", "forums", "--force", "-w", tmp_path / "ws", "--json")
    assert outcome.code == 0, outcome.err
    asked = [path.split("/")[4] for path in hub.asked if path.startswith("/api/datasets/")]
    assert asked == ["small", "forums-gis", "forums-tex"]
    found = json.loads(outcome.out)
    assert found["small"]["origin"] == f"on-hub/small@{COMMIT}"
    assert found["small"]["verified"] == "revision, counts"
    assert found["forums"]["passages"] == 11
    assert not list((datasets.parent / "downloads").glob("*.hub"))
