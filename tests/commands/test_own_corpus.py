"""From a data set of one's own to a plan, and from the plan to advice."""

import json
import re
import tomllib

import numpy as np
import pytest

from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder
from ragcun_cli.pipeline.profiles.load import load
from ragcun_cli.pipeline.reproduce.own_plan import own_plan
from ragcun_cli.pipeline.stages.estimate import STEP_SECONDS, machine_of

LONG = {"train": 200, "dev": 40, "test": 60}


def write_set(folder, judged, *, texts=None):
    """A folder in BEIR's layout, one passage a query, and so many judged queries of each split."""
    count = sum(judged.values())
    texts = texts or {
        f"number {n}": f"passage of number {n}, which is {n * n}" for n in range(count)
    }
    (folder / "qrels").mkdir(parents=True)
    pairs = list(texts.items())
    with (
        (folder / "corpus.jsonl").open("w") as corpus,
        (folder / "queries.jsonl").open("w") as asked,
    ):
        for number, (query, passage) in enumerate(pairs):
            corpus.write(json.dumps({"_id": f"p{number:04}", "title": "", "text": passage}) + "\n")
            asked.write(json.dumps({"_id": f"q{number:04}", "text": query}) + "\n")
    start = 0
    for split, size in judged.items():
        lines = [f"q{n:04}\tp{n:04}\t1\n" for n in range(start, start + size)]
        (folder / f"qrels/{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
        start += size
    return folder


@pytest.fixture
def own(ragcun, tmp_path, monkeypatch):
    """Call it to import a set of so many judged queries into ./workspace of an empty folder."""
    monkeypatch.chdir(tmp_path)

    def bring(name="mine", judged=LONG, **more):
        outcome = ragcun(
            "data", "import", write_set(tmp_path / f"of-{name}", judged, **more), "--name", name
        )
        assert outcome.code == 0, outcome.err

    return bring


def test_a_dry_run_counts_each_passage_through_the_base_once(ragcun, own, tmp_path):
    own()
    base = ("--base", "sentence-transformers/all-MiniLM-L6-v2")
    assert ragcun("profile", "init", "own", "--data", "mine", *base).code == 0
    steps = tomllib.loads((tmp_path / "profiles/own.toml").read_text())["overrides"]["training"]
    outcome = ragcun("reproduce", "--profile", "own", "--dry-run", "--json")
    stages = json.loads(outcome.out)["stages"]
    found = {one["what"]: one["seconds"] for one in stages if one["stage"] == "train"}
    assert found["set up free_transform"] > 1  # the first that needs outputs of all passages
    for seed in (1, 2, 3):  # and these need none that the others have not
        guess = found[f"train without_isotropy, seed {seed}"]
        assert guess == pytest.approx(STEP_SECONDS * steps["max_steps"])


def profiles(tmp_path):
    return sorted(file.name for file in tmp_path.glob("profiles/*"))


def test_a_plan_has_the_values_of_its_set_and_says_what_it_takes(ragcun, own, tmp_path):
    own()
    outcome = ragcun("profile", "init", "own", "--data", "mine")
    assert outcome.code == 0, outcome.err
    assert re.search(r"will take (about \d+ min|under a minute) on ", outcome.err)
    assert "60 test queries: intervals will be wide" in outcome.err
    text = (tmp_path / "profiles/own.toml").read_text()
    assert "'mine' has 300 passages, and 200 training, 40 dev and 60 test queries." in text
    assert all(line.strip() for line in text.splitlines() if line.startswith("#") and line != "#")
    plan = tomllib.loads(text)
    overrides = plan["overrides"]
    assert overrides["training"]["batch_size"] == 16
    assert overrides["training"]["freeze_base"] is True
    assert overrides["training"]["selection"]["passages"] == 300
    assert overrides["encoder"]["head"]["init_passages"] == 300
    assert len(plan["seeds"]) == 3
    shown = json.loads(ragcun("profile", "show", "own", "--json").out)
    first, second = shown["experiments"]
    differing = {
        f"{section}.{key}"
        for section in ("encoder", "data", "mining", "training", "evaluation", "isotropy")
        for key, value in first[section].items()
        if value != second[section][key]
    }
    assert differing == {"training.lambda_isotropy", "training.lambda_reg"}


def test_a_gpu_trains_the_whole_encoder_where_queries_are_many(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for train, frozen in ((1_999, True), (2_000, False)):
        counts = {"passages": 400_000, "train": train, "dev": 500, "test": 1_000, "length": 128}
        card = machine_of("t4")
        text = own_plan("big", "mine", "some/encoder", counts=counts, width=None, machine=card)
        (tmp_path / "big.toml").write_text(text)
        experiment = load("big.toml").experiments[0]
        assert experiment.training.freeze_base is frozen
        assert experiment.training.precision == ("fp32" if frozen else "fp16")
        assert experiment.training.selection.passages == 10_000
        assert experiment.encoder.output_dim == 512


@pytest.mark.parametrize("split", LONG)
def test_a_set_that_lacks_judgements_gets_no_plan(ragcun, own, tmp_path, split):
    own(judged={name: size for name, size in LONG.items() if name != split})
    outcome = ragcun("profile", "init", "own", "--data", "mine")
    assert outcome.code == 2
    assert "'mine' has too few judged queries for a plan" in outcome.err
    assert f"{split} 0" in outcome.err
    assert "--dev-queries" in outcome.err
    assert profiles(tmp_path) == []


def test_a_set_made_of_too_few_documents_is_told_of_other_pairs(ragcun, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for n in range(9):
        said = " ".join(f"word{n * 100 + k}" for k in range(20))
        (tmp_path / f"docs/{n}.md").write_text(f"# Part number{n}\n\n{said}\n")
    made = ragcun("data", "import", "docs", "--name", "mine", "--pairs", "title", "--no-round-trip")
    assert made.code == 0, made.err
    outcome = ragcun("profile", "init", "own", "--data", "mine")
    assert outcome.code == 2
    said = " ".join(outcome.err.split())
    assert "'mine' has too few judged queries for a plan" in said
    assert "--force, or another --pairs; or more documents" in said
    assert "of a table" not in said


def test_a_set_of_ten_queries_gets_no_plan(ragcun, own, tmp_path):
    own(judged={"train": 6, "dev": 2, "test": 2})
    outcome = ragcun("profile", "init", "own", "--data", "mine")
    assert outcome.code == 2
    assert "(train 6, dev 2, test 2): it needs train 32, dev 10, test 10 or more" in outcome.err
    assert profiles(tmp_path) == []


def test_odd_requests_are_refused_with_a_command(ragcun, own, tmp_path):
    own()
    for words, said, hint in (
        (("own", "--data", "absent"), "no data set 'absent'", "data import"),
        (("own", "--data", "../mine"), "no data set '../mine'", "data import"),
        (("own", "--data", "scifact"), "no data set 'scifact'", "ragcun data get scifact"),
        (("own", "--data", "mine", "--extends", "smoke"), "not both", "init own --data mine"),
        (("own", "--base", "some/encoder"), "--data names none", "--data SET"),
        (("smoke", "--data", "mine"), "a profile 'smoke' already: ", "to run it; another name"),
        (("Own plan", "--data", "mine"), "is not a name", "profile init"),
    ):
        outcome = ragcun("profile", "init", *words)
        assert outcome.code == 2, words
        assert said in outcome.err
        assert hint in outcome.err
    assert profiles(tmp_path) == []
    assert ragcun("profile", "init", "own").code == 0
    assert (tmp_path / "profiles/own.toml").read_text().startswith('extends = "with_isotropy"')
    outcome = ragcun("profile", "init", "own", "--data", "mine")
    assert outcome.code == 2
    assert "there is a profile 'own' already: profiles/own.toml" in outcome.err
    said = "Hint: ragcun reproduce --profile own, to run it; rm profiles/own.toml before it is wri"
    assert said in outcome.err


def docstrings(count):
    """First sentence -> what follows it, of some functions of NumPy."""
    found = {}
    for name in sorted(vars(np)):
        text = (getattr(np, name).__doc__ or "") if callable(getattr(np, name)) else ""
        first, _, rest = " ".join(text.split()).partition(". ")
        if 20 < len(first) < 200 and len(rest) > 200:
            found.setdefault(first, rest[:600])
    return dict(list(found.items())[:count])


@pytest.mark.system
def test_three_hundred_passages_end_with_advice_and_are_encoded_once(ragcun, own, tmp_path):
    texts = docstrings(300)
    assert len(texts) == 300
    own(texts=texts)
    build_tiny_encoder(tmp_path / "encoder")
    assert ragcun("profile", "init", "own", "--data", "mine", "--base", "encoder").code == 0
    outcome = ragcun("reproduce", "--profile", "own", "--yes")
    assert outcome.code == 0, outcome.err
    document = json.loads((tmp_path / "workspace/reports/own/report.json").read_text())
    tables = {table["key"]: table for table in document["tables"]}

    rows = [row["model"] for row in tables["results"]["rows"]]
    trained = ["fine_tune", "without_isotropy"]
    assert rows == ["untouched", "free_transform", "bm25", "fusion", *trained]
    for row in (row for key in ("results", "serving") for row in tables[key]["rows"]):
        assert None not in row.values(), row
    advice = tables["contrasts"]["notes"][0]
    assert re.match("(Stay with|Take|Think of|Fuse) ", advice)
    assert "in binary search" in advice
    assert advice in outcome.err
    page = (tmp_path / "workspace/reports/own/report.html").read_text()
    assert page.index(advice[:20]) < page.index("<table")

    # All that the base ever encoded is kept, a file for each block: passages and queries once.
    kept = (tmp_path / "workspace/cache/base-outputs").glob("*/*.npy")
    blocks = sorted(len(np.load(file)) for file in kept)
    assert blocks.count(300) == 1
    assert sum(blocks) <= 300 + 200 + 40 + 60
