import gzip
import io
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import COMMIT, Hub
from huggingface_hub.utils._xet_progress_reporting import XetDownloadProgressReporter

import ragcun_cli
from ragcun_cli.pipeline.data.bring.hub import _Bytes, _told
from ragcun_cli.pipeline.data.bring.hub_tables import _batches

REPO = "someone/tides"
CORPUS = [
    {"_id": "d1", "title": "Tides", "text": "The moon pulls.\nTwice a day."},
    {
        "_id": "d2",
        "title": "",
        "text": 'An \u201cebb\u201d, or "low" water \u2014 na\u00efve \U0001f30a',
    },
    {"_id": "d3", "title": "Salt", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "why tides?"}, {"_id": "q2", "text": "what is an ebb"}]
TRAIN, DEV, TEST = [("q2", "d2", 1)], [("q2", "d1", 1)], [("q1", "d1", 2), ("q1", "d3", 0)]

# One process serves all tests: huggingface_hub reads its settings when it is imported, which takes
# seconds. Only the clock is fake there, since the client waits a second before it asks again.
WORKER = """
import json, sys, time, traceback
from contextlib import contextmanager
from pathlib import Path
from ragcun_cli.pipeline.data.bring.hub import fetch_set
from ragcun_cli.spec.errors import DataError

class Watcher:
    def __init__(self):
        self.notes, self.bars = [], []

    def note(self, text):
        self.notes.append(text)

    @contextmanager
    def bar(self, label, *, total, unit):
        bar = [label, total, 0, unit]
        self.bars.append(bar)
        def step(count):
            bar[2] += count
        yield step

time.sleep = lambda seconds: None
for line in sys.stdin:
    repo, revision, folder = json.loads(line)
    watcher = Watcher()
    answer = {"error": None}
    try:
        fetch_set(repo, revision, Path(folder), progress=watcher)
    except DataError as error:
        answer = {"error": str(error), "hint": error.hint}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer | vars(watcher)), flush=True)
"""


class Worker:
    """A process of its own, in which `fetch_set` is called."""

    def __init__(self, folder, endpoint, **extra):
        dropped = ("HF_", "TRANSFORMERS_", "HUGGINGFACE_", "TQDM_")
        settings = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        settings |= {
            "HF_HOME": str(folder / "hf"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "PYTHONPATH": str(Path(ragcun_cli.__file__).parent.parent),
            "TQDM_POSITION": "-1",  # the library's bars are shown without a terminal, too
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **extra,
        }
        self.errors = folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                cwd=folder,
                env=settings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()

    def __call__(self, folder, *, repo=REPO, revision=COMMIT):
        watchdog = threading.Timer(120, self.process.kill)
        watchdog.start()
        self.process.stdin.write(json.dumps([repo, revision, str(folder)]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        watchdog.cancel()
        assert answer, self.errors.read_text()
        return json.loads(answer)


@pytest.fixture(scope="module")
def server():
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def worker(server, tmp_path_factory):
    with Worker(tmp_path_factory.mktemp("worker"), server.endpoint) as worker:
        yield worker


@pytest.fixture
def hub(server):
    server.asked.clear()
    server.faults.clear()
    server.answers.clear()
    server.repositories.clear()
    return server


@pytest.fixture
def fetch(hub, worker, tmp_path):
    """Publish files and fetch them into a folder."""

    def fetch(files=None, **which):
        if files is not None:
            hub.publish(REPO, files, data_set=True)
        return worker(tmp_path / "set", **which)

    return fetch


def at(name):
    return f"/datasets/{REPO}/resolve/{COMMIT}/{name}"


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def tsv(rows, header="query-id\tcorpus-id\tscore\n"):
    return (header + "".join(f"{q}\t{d}\t{score}\n" for q, d, score in rows)).encode()


def judged(rows):
    return [{"query-id": q, "corpus-id": d, "score": score} for q, d, score in rows]


def parquet(rows, **options):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


def texts():
    return {"corpus.jsonl": jsonl(CORPUS), "queries.jsonl": jsonl(QUERIES)}


def tables(corpus="corpus/corpus", queries="queries/queries", shard="-00000-of-00001", **renamed):
    def named(rows):
        return [{renamed.get(key, key): value for key, value in row.items()} for row in rows]

    return {
        f"{corpus}{shard}.parquet": parquet(named(CORPUS)),
        f"{queries}{shard}.parquet": parquet(named(QUERIES)),
    }


def read(folder):
    """What a folder in BEIR's layout holds: corpus, queries, and the lines of judgements."""

    def lines(name):
        packed = folder / f"{name}.gz"
        plain = folder / name
        text = gzip.decompress(packed.read_bytes()) if packed.is_file() else plain.read_bytes()
        return [json.loads(line) for line in text.decode().split("\n")[:-1]]

    qrels = {file.name: file.read_bytes() for file in (folder / "qrels").iterdir()}
    return lines("corpus.jsonl"), lines("queries.jsonl"), qrels


def whole(folder, **splits):
    corpus, queries, qrels = read(folder)
    assert corpus == CORPUS
    assert queries == QUERIES
    assert qrels == {f"{split}.tsv": tsv(rows) for split, rows in splits.items()}
    assert not (folder / ".hub").exists()


def test_a_set_in_jsonl_comes_whole(fetch, hub, tmp_path):
    splits = {"train": TRAIN, "dev": DEV, "test": TEST}
    qrels = {f"qrels/{split}.jsonl": jsonl(judged(rows)) for split, rows in splits.items()}
    files = texts() | qrels
    answer = fetch(files | {"README.md": b"about", "qrels/test.tsv": b"not read"})
    assert answer["error"] is None
    whole(tmp_path / "set", **splits)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "corpus.jsonl",
        "qrels",
        "queries.jsonl",
    ]
    total = sum(map(len, files.values()))
    assert answer["bars"] == [[f"download {REPO}", total, total, "B"]]
    assert {path for path in hub.asked if "/resolve/" in path} == set(map(at, files))


def test_a_set_with_judgements_in_tsv_comes_whole(fetch, tmp_path):
    assert (
        fetch(texts() | {"qrels/test.tsv": tsv(TEST), "qrels/dev.tsv": tsv(DEV)})["error"] is None
    )
    whole(tmp_path / "set", dev=DEV, test=TEST)


def test_judgements_in_tsv_without_a_header_are_all_read(fetch, tmp_path):
    assert fetch(texts() | {"qrels/test.tsv": tsv(TEST, header="")})["error"] is None
    whole(tmp_path / "set", test=TEST)


@pytest.mark.parametrize(
    ("name", "content"),
    [("qrels/test.jsonl.gz", jsonl(judged(TEST))), ("qrels/test.tsv.gz", tsv(TEST))],
)
def test_a_packed_set_stays_packed_but_for_its_judgements(fetch, tmp_path, name, content):
    packed = {f"{name}.gz": gzip.compress(content) for name, content in texts().items()}
    assert fetch(packed | {name: gzip.compress(content)})["error"] is None
    whole(tmp_path / "set", test=TEST)
    held = {path.name for path in (tmp_path / "set").iterdir()}
    assert held == {"corpus.jsonl.gz", "queries.jsonl.gz", "qrels"}


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels", "shard", "names"),
    [
        ("corpus/corpus", "queries/queries", "qrels/test", "-00000-of-00001", {}),
        ("corpus/test", "queries/test", "qrels/test", "-00000-of-00001", {"_id": "id"}),
        ("corpus/corpus", "queries/queries", "data/test", "-00000-of-00001-0a1b2c3d4e5f6071", {}),
        ("corpus/corpus", "queries/queries", "default/test", "/0000", {}),
        ("corpus/train", "queries/train", "default/test", "", {"_id": "id"}),
    ],
)
def test_a_set_in_parquet_comes_whole(fetch, tmp_path, corpus, queries, qrels, shard, names):
    files = tables(corpus, queries, shard, **names) | {
        f"{qrels}{shard}.parquet": parquet(judged(TEST))
    }
    answer = fetch(files)
    assert answer["error"] is None
    whole(tmp_path / "set", test=TEST)
    total = sum(map(len, files.values()))
    assert answer["bars"] == [
        [f"download {REPO}", total, total, "B"],
        ["write queries.jsonl", 2, 2, "rows"],
        ["write corpus.jsonl", 3, 3, "rows"],
    ]


def test_the_parts_of_a_table_are_read_in_their_order(fetch, tmp_path):
    parts = {
        f"corpus/corpus-{n:05}-of-00003.parquet": parquet([row]) for n, row in enumerate(CORPUS)
    }
    files = {"queries.jsonl": jsonl(QUERIES), "qrels/test.tsv": tsv(TEST)} | parts
    assert fetch(dict(reversed(files.items())))["error"] is None
    whole(tmp_path / "set", test=TEST)


def test_a_table_of_many_rows_and_row_groups_loses_none(fetch, tmp_path):
    rows = [{"_id": f"d{n}", "title": f"t{n}", "text": f"{n} tides"} for n in range(2_500)]
    table = {"corpus/corpus-00000-of-00001.parquet": parquet(rows, row_group_size=700)}
    answer = fetch({"queries.jsonl": jsonl(QUERIES), "qrels/test.tsv": tsv(TEST)} | table)
    assert answer["error"] is None
    assert read(tmp_path / "set")[0] == rows
    assert answer["bars"][1] == ["write corpus.jsonl", 2_500, 2_500, "rows"]


def test_a_table_is_never_in_memory_as_a_whole(tmp_path):
    text = random.Random(0)
    rows = [{"id": f"d{n}", "text": text.randbytes(500).hex()} for n in range(20_000)]
    file = tmp_path / "corpus.parquet"
    file.write_bytes(parquet(rows, row_group_size=5_000))
    before, peak, seen = pa.total_allocated_bytes(), 0, []
    for batch in _batches(file, ("_id", "id", "title", "text")):
        peak = max(peak, pa.total_allocated_bytes() - before)
        seen += batch
    assert seen == rows
    assert 0 < peak < 8_000_000 < file.stat().st_size


def test_ids_that_are_numbers_and_titles_that_are_missing_are_as_beir_has_them(fetch, tmp_path):
    rows = [{"id": 7, "title": None, "text": "ebb"}, {"id": 8, "title": "Flow", "text": "high"}]
    files = {
        "corpus/test-00000-of-00001.parquet": parquet(rows),
        "queries/test-00000-of-00001.parquet": parquet([{"id": 1, "text": "tide", "more": 2.5}]),
        "qrels/test-00000-of-00001.parquet": parquet(judged([(1, 7, 1)])),
    }
    assert fetch(files)["error"] is None
    assert read(tmp_path / "set") == (
        [{"_id": "7", "title": "", "text": "ebb"}, {"_id": "8", "title": "Flow", "text": "high"}],
        [{"_id": "1", "text": "tide"}],
        {"test.tsv": tsv([(1, 7, 1)])},
    )


def test_a_corpus_without_titles_gets_empty_ones(fetch, tmp_path):
    table = {"corpus/corpus-00000-of-00001.parquet": parquet([{"_id": "d1", "text": "ebb"}])}
    rest = {"queries.jsonl": jsonl(QUERIES), "qrels/test.tsv": tsv(TEST)}
    assert fetch(table | rest)["error"] is None
    assert read(tmp_path / "set")[0] == [{"_id": "d1", "title": "", "text": "ebb"}]


@pytest.mark.parametrize("name", ["validation", "valid", "val"])
def test_the_validation_split_is_the_dev_split(fetch, tmp_path, name):
    assert fetch(texts() | {f"qrels/{name}.jsonl": jsonl(judged(DEV))})["error"] is None
    whole(tmp_path / "set", dev=DEV)


FORMS = {
    "jsonl": lambda rows: ("qrels/test.jsonl", jsonl(judged(rows))),
    "tsv": lambda rows: ("qrels/test.tsv", tsv(rows)),
    "parquet": lambda rows: ("data/test-00000-of-00001.parquet", parquet(judged(rows))),
}


@pytest.mark.parametrize("form", FORMS)
def test_scores_that_are_whole_are_written_as_whole_numbers(fetch, tmp_path, form):
    name, content = FORMS[form]([("q1", "d1", 2.0), ("q1", "d3", 0.0)])
    assert fetch(texts() | {name: content})["error"] is None
    whole(tmp_path / "set", test=TEST)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("score", [0.5, float("nan"), float("inf")])
def test_a_score_that_is_not_whole_is_refused(fetch, tmp_path, form, score):
    name, content = FORMS[form]([("q1", "d1", 2.0), ("q1", "d3", score)])
    line = 3 if form == "tsv" else 2
    seen = repr(str(score) if form == "tsv" else score)
    assert fetch(texts() | {name: content})["error"] == (
        f"{tmp_path / 'set' / '.hub' / name}:{line}: expected a whole score, got {seen}"
    )


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({"queries.jsonl": b"", "qrels/test.tsv": b""}, "corpus"),
        ({"corpus.jsonl": b"", "qrels/test.tsv": b""}, "queries"),
        ({"corpus.jsonl": b"", "queries.jsonl": b""}, "judgements of train, dev or test"),
        ({"README.md": b""}, "queries, corpus, judgements of train, dev or test"),
        (
            {
                "corpus/partial-corpus/0000.parquet": b"",
                "queries/queries/0000.parquet": b"",
                "default/partial-test/0000.parquet": b"",
            },
            "corpus, judgements of train, dev or test",
        ),
    ],
)
def test_a_set_that_lacks_a_part_is_refused_before_a_download(fetch, hub, files, missing):
    answer = fetch(files)
    assert answer["error"] == (
        f"{REPO}@{COMMIT} is not in a form that BEIR's sets have on the Hub; not found: {missing}"
    )
    assert answer["hint"] == f"hf datasets ls {REPO} --revision {COMMIT} -R"
    assert not any("/resolve/" in path for path in hub.asked)


def test_a_table_without_the_column_it_needs_is_refused(fetch, tmp_path):
    name = "data/test-00000-of-00001.parquet"
    answer = fetch(texts() | {name: parquet([{"query-id": "q1", "corpus-id": "d1"}])})
    assert answer["error"] == (
        f"{tmp_path / 'set' / '.hub' / name} has no column 'score', only: query-id, corpus-id"
    )


def test_a_table_that_is_none_is_refused(fetch, tmp_path):
    name = "data/test-00000-of-00001.parquet"
    answer = fetch(texts() | {name: b"PAR1 and no more"})
    assert answer["error"].startswith(f"{tmp_path / 'set' / '.hub' / name} cannot be read: ")


@pytest.mark.parametrize(
    "name", ["../evil.jsonl", "/etc/evil", "corpus/../../0000.parquet", "a\\b", "C:evil", "a//b"]
)
def test_a_file_name_that_leads_elsewhere_is_refused(fetch, hub, tmp_path, name):
    files = texts() | {"qrels/test.tsv": tsv(TEST)}
    hub.publish(REPO, files, data_set=True, names=[*files, name])
    answer = fetch()
    assert answer["error"] == (f"{REPO}@{COMMIT}: the file name {name!r} leads out of the folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("revision", ["main", "c" * 7, "C" * 40, "c" * 41, ""])
def test_a_revision_that_is_no_full_commit_is_refused_without_asking(fetch, hub, revision):
    answer = fetch(texts() | {"qrels/test.tsv": tsv(TEST)}, revision=revision)
    assert answer["error"] == f"{REPO}@{revision}: the revision is not a full commit"
    assert answer["hint"] == f"hf datasets info {REPO}"
    assert hub.asked == []


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ({"revision": "d" * 40}, "it has no such revision"),
        ({"repo": "someone/else"}, "there is no such data set, or none without a token (HF_TOKEN)"),
        ({"repo": "no/such/name"}, "Repo id must be in the form"),
    ],
)
def test_what_the_hub_does_not_have_is_refused(fetch, which, reason):
    repo, revision = which.get("repo", REPO), which.get("revision", COMMIT)
    answer = fetch(texts() | {"qrels/test.tsv": tsv(TEST)}, **which)
    assert answer["error"].startswith(f"the Hub did not give {repo}@{revision}: {reason}")
    assert answer["hint"] == f"hf download {repo} --repo-type dataset --revision {revision}"


LISTING = f"/api/datasets/{REPO}/revision/{COMMIT}"


@pytest.mark.parametrize("path", [LISTING, at("queries.jsonl")])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("drop", "Server disconnected without sending a response."),
        ("cut", "peer closed connection without sending complete message body"),
        (503, "Server error '503 Service Unavailable' for url"),
        (403, "Client error '403 Forbidden' for url"),
    ],
)
def test_a_hub_that_fails_is_told_in_one_line(fetch, hub, path, fault, reason):
    hub.faults[path] = fault
    answer = fetch(texts() | {"qrels/test.tsv": tsv(TEST)})
    assert answer["error"].startswith(f"the Hub did not give {REPO}@{COMMIT}: {reason}")
    assert "\n" not in answer["error"]


@pytest.mark.parametrize("listing", [b"<html>log in</html>", b"[]", b"{}", b'{"id": "x"}'])
def test_an_answer_that_is_not_the_hubs_is_refused(fetch, hub, listing):
    hub.faults[LISTING] = listing
    answer = fetch(texts() | {"qrels/test.tsv": tsv(TEST)})
    assert f"{REPO}@{COMMIT}" in answer["error"]
    assert "Traceback" not in answer["error"]


@pytest.mark.parametrize(
    ("other", "flaw"),
    [(b"x" * 3, "it has 3 bytes instead of "), (None, "its sha256 is ")],
)
def test_a_file_that_is_not_the_listed_one_is_refused_and_fetched_anew(
    fetch, hub, tmp_path, other, flaw
):
    name = "data/test-00000-of-00001.parquet"
    right = parquet(judged(TEST))
    hub.faults[at(name)] = other or bytes(reversed(right))
    answer = fetch(texts() | {name: right})
    assert answer["error"].startswith(
        f"the Hub did not give {REPO}@{COMMIT}: {name} came, and {flaw}"
    )
    hub.faults.clear()
    assert fetch()["error"] is None
    whole(tmp_path / "set", test=TEST)


def test_a_second_try_fetches_only_what_is_missing(fetch, hub, tmp_path):
    files = texts() | {"qrels/test.jsonl": jsonl(judged(TEST))}
    hub.faults[at("corpus.jsonl")] = "cut"
    assert fetch(files)["error"] is not None
    assert {path for path in hub.asked if "/resolve/" in path} == set(map(at, files))
    hub.faults.clear()
    hub.asked.clear()
    answer = fetch()
    assert answer["error"] is None
    whole(tmp_path / "set", test=TEST)
    assert {path for path in hub.asked if "/resolve/" in path} == {at("corpus.jsonl")}
    total = sum(map(len, files.values()))
    assert answer["bars"] == [[f"download {REPO}", total, total, "B"]]


def test_files_of_another_revision_are_not_taken_for_those_of_this_one(fetch, hub, tmp_path):
    hub.faults[at("corpus.jsonl")] = "cut"
    assert fetch(texts() | {"qrels/test.tsv": tsv(DEV)})["error"] is not None
    hub.faults.clear()
    later = texts() | {"qrels/test.tsv": tsv(TEST)}
    hub.publish(REPO, later, data_set=True, commit="d" * 40)
    assert fetch(revision="d" * 40)["error"] is None
    whole(tmp_path / "set", test=TEST)


def test_nothing_is_asked_where_the_hub_is_out_of_reach_by_choice(hub, tmp_path):
    with Worker(tmp_path, hub.endpoint, HF_HUB_OFFLINE="1") as offline:
        answer = offline(tmp_path / "set")
    assert answer["error"] == (
        f"{REPO}@{COMMIT} is to come from the Hub, and HF_HUB_OFFLINE keeps it out of reach"
    )
    assert answer["hint"] == "unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE"
    assert hub.asked == []


def test_a_hub_that_nobody_serves_is_told_in_one_line(tmp_path):
    with Worker(tmp_path, "http://127.0.0.1:9") as alone:
        answer = alone(tmp_path / "set")
    assert answer["error"].startswith(f"the Hub did not give {REPO}@{COMMIT}: ")
    assert answer["error"].endswith("Connection refused")


def test_the_bars_of_the_library_stay_off_the_terminal(fetch, worker):
    assert fetch(texts() | {"qrels/test.tsv": tsv(TEST)})["error"] is None
    said = worker.errors.read_text()
    assert "it/s" not in said
    assert "B/s" not in said


def test_bytes_that_come_by_xet_are_told_once():
    told = []
    bar = _Bytes(told.append)
    with XetDownloadProgressReporter(
        reconstruction_desc="", total=300, log_level=0, tqdm_class=bar
    ) as reporter:
        for done, sent in ((100, 50), (300, 120)):
            reporter.update_progress(
                SimpleNamespace(
                    total_bytes=300,
                    total_bytes_completed=done,
                    total_bytes_completion_rate=1.0,
                    total_transfer_bytes_completed=sent,
                    total_transfer_bytes_completion_rate=1.0,
                )
            )
    assert told == [100, 200]
    assert bar.count == 300


@pytest.mark.parametrize("error", [TypeError("a bug of ours"), KeyError("a bug of ours")])
def test_what_the_client_does_not_raise_is_a_bug(error):
    with pytest.raises(type(error), match="a bug of ours"), _told(REPO, COMMIT):
        raise error
