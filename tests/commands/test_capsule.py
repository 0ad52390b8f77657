"""`ragcun report --capsule` and `--check`: what goes in, what comes out again, what is found."""

import gzip
import io
import json
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from hashlib import sha256

import ir_measures
import numpy as np
import pytest
import yaml
from ir_measures import AP, RR, Judged, R, nDCG

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place, open_workspace
from ragcun_cli.pipeline.profiles.load import load_plan
from ragcun_cli.pipeline.report.formats.json_document import render_json
from ragcun_cli.pipeline.report.gather import gather
from ragcun_cli.pipeline.report.recheck import with_other_scores
from ragcun_cli.pipeline.report.tasks import Part, tables_of
from ragcun_cli.pipeline.reproduce.reports import Layout, ReportSession
from ragcun_cli.pipeline.reproduce.session import Choice
from ragcun_cli.pipeline.road import Road
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import runs_of
from ragcun_cli.spec.manifest import Manifest

CRATE = "ro-crate-metadata.json"
SMALL = ("--experiment", "with_isotropy", "--experiment", "frozen_efficient", "--seed", "1")
RUN = r"workspace/runs/with_isotropy/\w+/seed-1/"
ONE = f"{RUN}eval/smoke-numpy/"


@pytest.fixture(scope="module")
def capsule(smoke_workspace, tmp_path_factory):
    """The capsule of a part of the smoke plan."""
    file = tmp_path_factory.mktemp("capsule") / "smoke.zip"
    choice = Choice("smoke", None, [1], ["with_isotropy", "frozen_efficient"])
    session = ReportSession(str(smoke_workspace), Silent())
    session.report(choice, Layout(capsule=file), format_name=None, output=None)
    return file


def contents(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(file, members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def named(members, pattern):
    (found,) = [name for name in members if re.fullmatch(pattern, name)]
    return found


def lines_of(run):
    """The fields of each line of a run, as a reader would see it that skips comments."""
    text = gzip.decompress(run).decode()
    return [line.split(" ") for line in text.splitlines() if not line.startswith("#")]


# What goes in


def test_it_is_made_and_checked_elsewhere(ragcun, smoke_workspace, capsule, tmp_path, monkeypatch):
    file = tmp_path / "again.zip"
    made = ragcun("report", "-p", "smoke", *SMALL, "-w", smoke_workspace, "--capsule", file)
    assert made.code == 0, made.err
    assert f"ragcun report --check {file}" in made.err + made.out
    assert file.read_bytes() == capsule.read_bytes()

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("RAGCUN_DATA", str(tmp_path / "nowhere"))
    found = ragcun("report", "--check", file)
    assert found.code == 0, found.err
    assert "differs" not in found.err
    assert not list((tmp_path / "elsewhere").iterdir())


def test_its_names_are_sorted_and_its_times_are_fixed(capsule):
    with zipfile.ZipFile(capsule) as archive:
        infos = archive.infolist()
    names = [info.filename for info in infos]
    assert names == sorted(names)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    beside = {re.sub(r"[^/]+$", "", name) or name for name in names}
    assert {"README.md", "report.json", CRATE, "profiles/"} <= beside
    assert not [
        name for name in names if name.endswith((".safetensors", ".arrow", "queries.jsonl"))
    ]


def test_no_text_of_a_data_set_and_no_name_of_a_machine_is_in_it(capsule, smoke_workspace):
    texts = set()
    for folder in (smoke_workspace / "data/datasets").iterdir():
        if (folder / "queries.jsonl").exists():
            rows = (folder / "queries.jsonl").read_text().splitlines()
            texts |= {json.loads(row)["text"] for row in rows} | set(Corpus.open(folder).texts)
    texts = {text for text in texts if len(text) > 15}
    assert len(texts) > 100
    for name, content in contents(capsule).items():
        text = (gzip.decompress(content) if name.endswith(".gz") else content).decode("latin-1")
        assert not [one for one in texts if one in text], name
        assert '"host"' not in text


def test_scores_are_those_that_ir_measures_finds_in_its_runs(capsule):
    members = contents(capsule)
    measures = {
        "ndcg@10": nDCG @ 10,
        "recall@10": R @ 10,
        "map@100": AP @ 100,
        "mrr@10": RR @ 10,
        "judged@10": Judged @ 10,
    }
    checked = 0
    for name in [name for name in members if name.endswith("per_query.jsonl")]:
        folder, dataset = name.rpartition("/")[0], name.split("/")[-2]
        run = {}
        for query, _, passage, rank, _, _ in lines_of(members[f"{folder}/runs/{dataset}.trec.gz"]):
            run.setdefault(query, {})[passage] = -float(rank)
        qrels = {}
        judged = members[f"workspace/data/datasets/{dataset}/qrels/test.tsv"].decode()
        for query, passage, grade in [line.split("\t") for line in judged.splitlines()[1:]]:
            qrels.setdefault(query, {})[passage] = int(grade)
        found = {
            (str(one.measure), one.query_id): one.value
            for one in ir_measures.iter_calc(list(measures.values()), qrels, run)
        }
        for row in map(json.loads, members[name].decode().splitlines()):
            for key, measure in measures.items():
                assert row[key] == pytest.approx(found[str(measure), row["query"]], abs=1e-6)
                checked += 1
    assert checked > 1000


def test_a_run_begins_with_how_it_was_made_and_goes_on_as_the_search_wrote_it(
    capsule, smoke_workspace
):
    members = contents(capsule)
    runs = [name for name in members if name.endswith(".trec.gz")]
    assert len(runs) == 10
    for name in runs:
        head, end, _ = gzip.decompress(members[name]).decode().partition("# ir_metadata.end\n")
        first, *comments = head.splitlines()
        assert (first, end) == ("# ir_metadata.start", "# ir_metadata.end\n")
        assert all(line.startswith("# ") for line in comments)
        found = yaml.safe_load("\n".join(line.removeprefix("# ") for line in comments))
        primad = {"platform", "research goal", "implementation", "method", "data"}
        assert primad <= set(found)
        experiment, dataset = name.split("/")[2], name.split("/")[-3]
        assert found["tag"] == experiment
        assert found["data"]["test collection"]["name"] == dataset
        trained = experiment in ("with_isotropy", "frozen_efficient")
        assert found["method"]["retrieval"][0]["seed"] == (1 if trained else None)
        assert found["data"]["training data"][0]["name"] == ("smoke" if trained else None)
        original = smoke_workspace / name.removeprefix("workspace/")
        assert members[name].endswith(original.read_bytes())


def test_the_page_says_claim_command_minutes_hardware_and_number(capsule):
    members = contents(capsule)
    page = members["README.md"].decode()
    assert re.search(r"\| Claim +\| Command +\| Minutes \| Hardware +\| Number +\|", page)
    tables = {one["key"]: one for one in json.loads(members["report.json"])["tables"]}
    for row in tables["contrasts"]["rows"]:
        points = f"{100 * row['difference']['value']:+.2f}".replace("-", "−")
        (line,) = [line for line in page.splitlines() if f". {row['contrast']} " in line]
        assert points in line
        assert "ragcun reproduce --profile smoke --experiment" in line
    for name in re.findall(r"--profile (profiles/\S+)", page):
        assert name in members


def test_each_row_can_be_made_again_from_its_profile(capsule, ragcun, tmp_path, monkeypatch):
    zipfile.ZipFile(capsule).extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in re.findall(
        r"`(ragcun reproduce --profile profiles/.*)`", (tmp_path / "README.md").read_text()
    ):
        found = ragcun(*line.split()[1:], "--dry-run", "-w", tmp_path / "w")
        assert found.code == 0, found.err


def test_the_crate_names_every_file_and_what_made_it(capsule):
    members = contents(capsule)
    crate = json.loads(members.pop(CRATE))
    entities = {one["@id"]: one for one in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    root = entities["./"]
    assert {"name", "description", "datePublished", "license"} <= set(root)
    assert entities[CRATE]["about"] == {"@id": "./"}
    assert {part["@id"] for part in root["hasPart"]} == set(members)
    for name, content in members.items():
        assert entities[name]["sha256"] == sha256(content).hexdigest()
    actions = [one for one in entities.values() if one["@type"] == "CreateAction"]
    assert {action["@id"] for action in actions} == {one["@id"] for one in root["mentions"]}
    for action in actions:
        assert entities[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert action["result"]
        for part in (*action["result"], *action["object"]):
            assert entities[part["@id"]]["@type"] == "File"
    wrote = {part["@id"] for action in actions for part in action["result"]}
    assert {name for name in members if name.endswith((".gz", ".npz"))} <= wrote


@pytest.mark.system
def test_the_crate_is_valid_for_the_validator_of_ro_crates(capsule, tmp_path):
    """In an environment of its own; the context comes from a package that has a copy (CC0)."""
    env, cache = tmp_path / "env", tmp_path / "cache"
    subprocess.run([sys.executable, "-m", "venv", env], check=True)
    install = [env / "bin/pip", "install", "--quiet"]
    subprocess.run([*install, "roc-validator==0.13.0"], check=True)
    subprocess.run(
        [*install, "--no-deps", "--target", tmp_path / "old", "rocrate==0.11.0"], check=True
    )
    context = tmp_path / "old/rocrate/data/ro-crate.jsonld"
    url = "https://w3id.org/ro/crate/1.1/context"
    assert json.loads(context.read_text())["@id"] == url
    subprocess.run([env / "bin/python", "-c", KEEP, cache, url, context], check=True)

    def validated(folder):
        words = [
            "validate",
            "--offline",
            "--cache-path",
            cache,
            "--no-paging",
            "-v",
            "-l",
            "required",
        ]
        words = [env / "bin/rocrate-validator", "-y", *words, "-p", "process-run-crate-0.5", folder]
        return subprocess.run(words, capture_output=True, text=True)

    zipfile.ZipFile(capsule).extractall(tmp_path / "crate")
    done = validated(tmp_path / "crate")
    assert done.returncode == 0, done.stdout + done.stderr
    file = tmp_path / "crate" / CRATE
    file.write_text(file.read_text().replace('"instrument"', '"tool"'))
    done = validated(tmp_path / "crate")
    assert done.returncode != 0
    assert "instrument" in done.stdout


KEEP = """
import io, pathlib, sys
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from urllib3 import HTTPResponse

class Kept(HTTPAdapter):
    def send(self, request, **more):
        body = io.BytesIO(pathlib.Path(sys.argv[3]).read_bytes())
        headers = {"Content-Type": "application/ld+json"}
        raw = HTTPResponse(body, headers, 200, preload_content=False, request_url=request.url)
        return self.build_response(request, raw)

session = CachedSession(sys.argv[1], backend="sqlite", expire_after=-1)
session.mount("https://", Kept())
session.get(sys.argv[2])
"""
"""Puts a file into the validator's cache as the answer of an address."""


# What is refused


def test_a_stage_that_is_missing_is_named_with_the_command_that_makes_it(
    ragcun, workspace, tmp_path
):
    (folder,) = workspace.glob("runs/with_isotropy/*/seed-1")
    manifest = Manifest.load(folder / "manifest.json")
    manifest.with_stage("isotropy", None).save(folder / "manifest.json")
    found = ragcun("report", "-p", "smoke", "-w", workspace, "--capsule", tmp_path / "a.zip")
    assert found.code == 2
    assert "isotropy with_isotropy, seed 1" in found.err
    assert "ragcun reproduce --profile smoke" in found.err
    assert not (tmp_path / "a.zip").exists()


def test_a_capsule_is_of_one_plan(ragcun, workspace, tmp_path):
    shutil.rmtree(workspace / "reports")
    found = ragcun("report", "-w", workspace, "--capsule", tmp_path / "a.zip")
    assert found.code == 2
    assert "ragcun report --profile" in found.err
    assert not (tmp_path / "a.zip").exists()


def test_where_it_cannot_be_written_is_said(ragcun, smoke_workspace, tmp_path):
    (tmp_path / "folder").mkdir()
    found = ragcun("report", "-p", "smoke", "-w", smoke_workspace, "--capsule", tmp_path / "folder")
    assert found.code == 2
    assert "cannot be written: Is a directory" in found.err
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    "more",
    [
        ("--check", "b.zip"),
        ("--json",),
        ("-f", "latex"),
        ("--rows", "bm25"),
        ("--paper", "folder"),
        ("--push", "me/model"),
        ("--strict",),
    ],
)
def test_other_forms_of_a_report_are_refused_beside_it(ragcun, smoke_workspace, tmp_path, more):
    found = ragcun("report", "-w", smoke_workspace, "--capsule", tmp_path / "a.zip", *more)
    assert found.code == 2
    assert "leave" in found.err
    assert not (tmp_path / "a.zip").exists()


def _link():
    info = zipfile.ZipInfo("README.md/../../link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/evil",
        "a/../../evil",
        "a\\..\\..\\evil",
        "C:/evil",
        ".evil",
        "a//evil",
        "a\nb",
        _link(),
    ],
    ids=str,
)
def test_no_file_can_lie_outside(ragcun, capsule, tmp_path, name):
    file = tmp_path / "in" / "evil.zip"
    file.parent.mkdir()
    shutil.copy(capsule, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, "evil")
    before = sorted(tmp_path.rglob("*"))
    found = ragcun("report", "--check", file)
    assert found.code == 2
    assert "not unpacked" in found.err
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_archive_is_told_the_command_that_makes_one(ragcun, tmp_path):
    (tmp_path / "README.md").write_text("text")
    for name, why in (("README.md", "not a zip file"), ("nofile.zip", "No such file")):
        found = ragcun("report", "--check", tmp_path / name)
        assert found.code == 2
        assert why in found.err
        assert "Hint: ragcun report --profile PLAN --capsule FILE.zip" in found.err


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_grows_without_bounds_is_not_unpacked(ragcun, capsule, tmp_path):
    twice, bomb, inside = (tmp_path / name for name in ("twice.zip", "bomb.zip", "inside.zip"))
    shutil.copy(capsule, twice)
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("readme.MD", "another")
    members = contents(capsule)
    zeros = bytes(2 * 10**9 // 2)
    written(bomb, {**members, "zeros": zeros})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("parts.npy", bytes(3 * 10**8))
    scores = named(members, ONE + "scores.npz")
    written(inside, {**members, scores: buffer.getvalue()})
    for file in (twice, bomb, inside):
        found = ragcun("report", "--check", file)
        assert (found.code, "not unpacked" in found.err) == (2, True), found.err
        assert not found.out


def test_a_run_with_more_text_than_a_ranking_is_not_read_to_its_end(ragcun, capsule, tmp_path):
    members = contents(capsule)
    run = named(members, ONE + r"runs/smoke-numpy\.trec\.gz")
    members[run] += gzip.compress(bytes(2 * 10**8))
    found = ragcun("report", "--check", written(tmp_path / "a.zip", members))
    assert found.code == 4
    assert "more text than a ranking can have" in found.err


def test_what_is_no_capsule_cannot_be_compared(ragcun, capsule, tmp_path):
    text, other, broken = tmp_path / "a.txt", tmp_path / "b.zip", tmp_path / "c.zip"
    text.write_text("no zip")
    written(other, {"README.md": "something else", CRATE: "{}"})
    broken.write_bytes(capsule.read_bytes()[:-50])
    for file in (text, other, broken, tmp_path / "none.zip", tmp_path):
        found = ragcun("report", "--check", file)
        assert found.code == 2, found.err
        assert "Traceback" not in found.err
    members = contents(capsule) | {"workspace/plan.json": b"{}"}
    digest = json.loads(members[CRATE])
    for one in digest["@graph"]:
        if one["@id"] == "workspace/plan.json":
            one["sha256"] = sha256(b"{}").hexdigest()
    members[CRATE] = json.dumps(digest).encode()
    assert ragcun("report", "--check", written(tmp_path / "d.zip", members)).code == 2


# What is found


def flipped(content, pattern):
    """The content with another digit in the place of the last one of what a pattern finds."""
    match = re.search(pattern, content)
    at = match.end() - 1
    return content[:at] + str((int(content[at : at + 1]) + 5) % 10).encode() + content[at + 1 :]


def in_gzip(content, pattern):
    end = gzip.decompress(content).index(b"ir_metadata.end\n") + 16
    text = gzip.decompress(content)
    return gzip.compress(text[:end]) + gzip.compress(flipped(text[end:], pattern))


def in_arrays(content, pattern):
    arrays = dict(np.load(io.BytesIO(content)))
    arrays["float32/ndcg@10"][3] += 0.1
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


TAMPERED = {
    "a score of a query": (ONE + "per_query.jsonl", rb'"ndcg@10": 0\.\d\d', flipped),
    "a score as a column": (ONE + "scores.npz", b"", in_arrays),
    "a mean": (ONE + "metrics.json", rb'"ndcg@10": 0\.\d\d', flipped),
    "a line's score": (ONE + r"runs/smoke-numpy\.trec\.gz", rb" 1 -\d", in_gzip),
    "a line's passage": (ONE + r"runs/smoke-numpy\.trec\.gz", rb" Q0 \S*\d(?= 2 )", in_gzip),
    "a judgement": ("workspace/data/datasets/smoke-numpy/qrels/test.tsv", rb"\t1", flipped),
    "an interval": ("report.json", rb'"low": -?0\.\d{4}', flipped),
    "a p-value": ("report.json", rb'"p_value": 0\.\d\d', flipped),
    "a number of the page": ("README.md", rb"p 0\.\d\d\d", flipped),
    "isotropy": (RUN + "isotropy.json", rb'"plan_score": -?\d\.\d', flipped),
    "seconds on record": (RUN + "manifest.json", rb'"seconds": \d', flipped),
}


@pytest.mark.parametrize("listed", [False, True], ids=["as it is", "its digest made to fit"])
@pytest.mark.parametrize("what", TAMPERED)
def test_a_digit_that_was_changed_is_found_and_named(capsule, ragcun, tmp_path, what, listed):
    pattern, digit, change = TAMPERED[what]
    members = contents(capsule)
    name = named(members, pattern)
    members[name] = change(members[name], digit)
    assert members[name] != contents(capsule)[name]
    if listed:
        old = sha256(contents(capsule)[name]).hexdigest().encode()
        assert members[CRATE].count(old) == 1
        members[CRATE] = members[CRATE].replace(old, sha256(members[name]).hexdigest().encode())
    found = ragcun("report", "--check", written(tmp_path / "a.zip", members), "--json")
    assert found.code == 4, found.err
    said = json.loads(found.out)
    assert said["equal"] is False
    where = name.removeprefix("workspace/") if "manifest" in what else name.split("/")[-1]
    here = {"qrels": "smoke-numpy", "runs": "smoke-numpy", "isotropy.json": "isotropy"}
    words = [where, *(word for key, word in here.items() if key in name)]
    assert [one for one in said["differences"] if any(word in one for word in words)]


def test_every_number_says_how_far_down_it_was_followed(capsule, ragcun, tmp_path):
    members = contents(capsule)
    whole = json.loads(ragcun("report", "--check", capsule, "--json").out)
    assert (whole["equal"], whole["differences"], whole["notes"]) == (True, [], [])
    depths = whole["numbers"]
    for place, depth in {
        "results: with_isotropy, smoke-numpy": "runs",
        "results: with_isotropy, difference, low": "runs",
        "results: with_isotropy, trainable_parameters": "record",
        "isotropy: with_isotropy, plan_score, value": "record",
        "isotropy-passages: with_isotropy, skewness": "runs",
        "cost: with_isotropy, training_minutes": "record",
        "contrasts: with_isotropy − untouched, p_value": "runs",
        "calibration: bm25, ece": "runs",
    }.items():
        assert depths[place] == depth, place
    numbers = 0
    for table in json.loads(members["report.json"])["tables"]:
        for row in table["rows"]:
            cells = [value for key, value in row.items() if key != table["columns"][0]["key"]]
            flat = [
                x for cell in cells for x in (cell.values() if isinstance(cell, dict) else [cell])
            ]
            numbers += sum(isinstance(x, int | float) for x in flat)
    assert len(depths) == numbers > 100

    run = named(members, ONE + r"runs/smoke-numpy\.trec\.gz")
    del members[run]
    found = ragcun("report", "--check", written(tmp_path / "less.zip", members), "--json")
    assert found.code == 0, found.err
    less = json.loads(found.out)["numbers"]
    assert less["results: with_isotropy, smoke-numpy"] == "scores"
    assert less["results: with_isotropy, average"] == "scores"
    assert less["results: with_isotropy, smoke-sklearn"] == "runs"
    assert less["results: bm25, smoke-numpy"] == "runs"


def test_p_values_at_either_end_of_their_range_move_with_other_scores(smoke_workspace):
    road, runner = Road.of(Place(open_workspace(str(smoke_workspace)))), Runner(Silent())
    plan = load_plan("smoke")
    rows = gather(runs_of(plan, road.place.workspace), road, runner)
    every = {(seed.run.folder, name) for row in rows for seed in row.every for name in seed.metrics}

    def p_values(apart):
        tables = tables_of([Part(plan.name, with_other_scores(rows, every, apart), plan)])
        tables = json.loads(render_json(tables))["tables"]
        (found,) = [table["rows"] for table in tables if table["key"] == "contrasts"]
        return [row["p_value"] for row in found]

    high, low = p_values(apart=False), p_values(apart=True)
    assert max(low) < 1e-3
    assert all(one < other for one, other in zip(low, high, strict=True))


def test_a_capsule_packed_anew_by_others_is_the_same_one(capsule, ragcun, tmp_path):
    zipfile.ZipFile(capsule).extractall(tmp_path / "crate")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "crate")
    assert ragcun("report", "--check", packed).code == 0
