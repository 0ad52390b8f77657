"""The model card, of scores and records that are written here."""

import re

import numpy as np
import pytest
from huggingface_hub import ModelCard, parse_eval_result_entries
from yaml import safe_load

from ragcun_cli.core.rankings.contrasts import contrast
from ragcun_cli.pipeline.data.sources import BEIR
from ragcun_cli.pipeline.evaluation.score_columns import ScoreColumns
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report.card import card_files, trained, training_set
from ragcun_cli.pipeline.report.rows import ModelRow, SeedResults
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import StageRecord
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import RunProfile

SETS = {"scifact": {"": 40}, "cqadupstack": {"android": 25, "english": 60}}
REGISTRY = "ragcun's registry, after mteb"
IMPORT = "the import of who brought it"
VERSIONS = {"python": "3.11", "ragcun": "0.1.0"}


def record(**details):
    return StageRecord(
        recipe="r",
        outputs=(),
        seconds=1.0,
        finished="2026-01-02T03:04:05+00:00",
        device="a machine",
        versions=VERSIONS,
        commit=None,
        details=details,
    )


def training(name, source):
    return record(
        encoder={"name": name, "source": source, "digests": {"sha256": "0" * 64}},
        weights={"contrastive": 1.0, "isotropy": 0.0, "variance": 0.0},
        steps=1000,
        rows=2000,
        training_seconds=7200.0,
    )


@pytest.fixture
def space(tmp_path):
    return Workspace(root=tmp_path / "ws", data=tmp_path / "ws/data")


@pytest.fixture
def base(tmp_path):
    """A folder of a base that says nothing of itself."""
    folder = tmp_path / "secret place/my-base"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def row(space, base):
    """Call it for a row of a table, its scores drawn."""

    def make(label, seeds=(1,), *, reference=None, sets=SETS, source="local path", samples=None):
        profile = RunProfile.model_validate(
            {
                "name": "x",
                "description": "Trained *well*",
                "encoder": {"base": str(base)},
                "evaluation": {"datasets": [*SETS, "nq"]},
            }
        )
        found = []
        for seed in (None,) if reference else seeds:
            scores, metrics = {}, {}
            for name, parts in sets.items():
                rng = np.random.default_rng([*map(ord, label + name), seed or 0])
                drawn = {part: rng.uniform(size=count) for part, count in parts.items()}
                queries = {part: f"digest of {count} ids" for part, count in parts.items()}
                scores[name] = ScoreColumns(queries, {("float32", "ndcg@10"): drawn})
                mean = float(np.mean([values.mean() for values in drawn.values()]))
                metrics[name] = {
                    "queries": sum(parts.values()),
                    "metrics": {"ndcg@10": mean},
                    "settings": {"similarity": "euclidean", "dimensions": 512, "max_tokens": 384},
                    **({"parts": {}} if len(parts) > 1 else {}),
                }
            done = dict.fromkeys(metrics, record())
            made = None if reference else training("someone/base", source)
            run = Run(profile, seed, reference, space)
            found.append(SeedResults(run, made, done, scores, None, metrics, samples or {}))
        return ModelRow(label, tuple(found))

    return make


@pytest.fixture
def card(space):
    """Call it for the files of the first training of rows."""

    def make(*rows):
        found = trained(rows)[0]
        return card_files(found, rows, Place(space), Runner(Silent()), loaded_from="FOLDER")

    return make


def cells(text, name):
    (line,) = re.findall(rf"^\| {name} .*$", text, flags=re.M)
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def shown(found, sign=""):
    ends = ", ".join(f"{100 * end:{sign}.1f}" for end in found.interval())
    return f"{100 * found.mean:{sign}.1f} [{ends}]".replace("-", "−")


def by_hand(rows, names, seeds=1):
    parts = {
        f"{name}/{part}": np.array(
            [one.scores[name].values["float32", "ndcg@10"][part] for one in rows.seeds[:seeds]]
        )
        for name in names
        for part in SETS[name]
    }
    weights = {f"{name}/{part}": 1 / len(SETS[name]) for name in names for part in SETS[name]}
    return parts, weights


def test_scores_stand_with_their_intervals_beside_those_of_the_base(row, card):
    ours, base = row("x", (1, 2, 3)), row("untouched", reference="untouched")
    text = card(ours, base)["README.md"]
    for label, names in (
        ("scifact", ["scifact"]),
        ("cqadupstack", ["cqadupstack"]),
        ("Average of 2", ["scifact", "cqadupstack"]),
    ):
        own, weights = by_hand(ours, names)
        theirs, _ = by_hand(base, names)
        seeds, _ = by_hand(ours, names, seeds=3)
        differences = {part: own[part] - theirs[part] for part in own}
        assert cells(text, label) == [
            str(sum(scores.shape[1] for scores in own.values())),
            shown(contrast(own, weights)),
            shown(contrast(theirs, weights)),
            shown(contrast(differences, weights), "+"),
            shown(contrast(seeds, weights)),
        ]
    assert cells(text, "nq") == ["not measured"] * 5


def test_what_was_not_measured_is_said_and_never_0(row, card):
    text = card(row("x", sets={}))["README.md"]
    assert cells(text, "scifact") == ["not measured"] * 2
    assert "Not compared with the untouched base" in text
    assert "Average of" not in text
    assert "not measured" in " ".join(cells(text, "x"))
    assert ModelCard(text).data.license == "unknown"


def test_a_set_of_one_query_has_a_score_and_no_interval(row, card):
    text = card(row("x", sets={"scifact": {"": 1}}))["README.md"]
    queries, score = cells(text, "scifact")
    assert queries == "1"
    assert re.fullmatch(r"[\d.]+", score)


def test_scores_are_written_as_the_hub_and_mteb_have_them(row, card):
    ours = row("x")
    files = card(ours)
    names = ("SciFact", "CQADupstackAndroidRetrieval", "CQADupstackEnglishRetrieval")
    assert files.keys() == {"README.md", *(f".eval_results/{name}.yaml" for name in names)}
    (entry,) = parse_eval_result_entries(safe_load(files[".eval_results/SciFact.yaml"]))
    repo, revision = BEIR["scifact"].hub[""]
    assert (entry.dataset_id, entry.dataset_revision) == (repo, revision)
    assert entry.task_id == "SciFact_default_test"
    mean = ours.seeds[0].metrics["scifact"]["metrics"]["ndcg@10"]
    assert entry.value == pytest.approx(100 * mean, abs=1e-5)
    assert entry.date == "2026-01-02T03:04:05+00:00"
    sample = card(row("x", samples={"scifact": "fever", "cqadupstack": "fever"}))
    assert sample.keys() == {"README.md"}
    assert "Samples, comparable with no other scores: scifact, cqadupstack." in sample["README.md"]


@pytest.mark.parametrize(
    ("readme", "licence", "language", "said"),
    [
        (None, "unknown", "en", "not declared | no README of it can be read here"),
        ("no metadata", "unknown", "en", "not declared | not in its README"),
        ("---\nlicense: [unclosed\n---\n", "unknown", "en", "not declared | no README of it can"),
        ("---\nlicense:\n---\n", "unknown", "en", "not declared | not in its README"),
        (
            "---\nlicense: mit\nlanguage: [de, en]\n---\nA base.\n",
            "mit",
            ["de", "en"],
            "mit | README",
        ),
        (
            "---\nlicense: other\nlicense_name: a|b\nlicense_link: LICENSE\n---\n",
            *("other", "en", "other, a\\|b, LICENSE | README of the base"),
        ),
    ],
)
def test_the_licence_is_what_the_base_declares(row, card, base, readme, licence, language, said):
    if readme is not None:
        (base / "README.md").write_text(readme)
    text = card(row("x"))["README.md"]
    data = ModelCard(text).data
    assert (data.license, data.language) == (licence, language)
    assert f"| The base | {said}" in text
    assert data.datasets == ["mteb/msmarco"]
    assert "| The training set | msr-la-nc | ragcun's registry, after mteb |" in text


def test_a_base_is_named_as_the_hub_has_it_and_a_folder_by_its_last_name(row, card, base):
    local = card(row("x"))["README.md"]
    assert ModelCard(local).data.base_model is None
    assert 'base = "my-base"' in local
    assert str(base.parent) not in local
    there = card(row("x", source="hub cache"))["README.md"]
    assert ModelCard(there).data.base_model == "someone/base"
    assert "https://huggingface.co/someone/base" in there
    assert "Trained \\*well\\*" in there


@pytest.mark.parametrize(
    ("name", "recorded", "licence", "stated_in", "on_hub", "source"),
    [
        (
            "pydocs",
            {"libraries": {"torch": "2"}},
            *("that of each library", "the libraries themselves", []),
            "docstrings of torch 2",
        ),
        ("msmarco", {"origin": "a.host"}, "msr-la-nc", REGISTRY, ["mteb/msmarco"], "a.host"),
        ("msmarco-select", {}, "msr-la-nc", REGISTRY, ["mteb/msmarco"], "imported"),
        ("few", {"sample": {"of": "msmarco"}}, "msr-la-nc", REGISTRY, ["mteb/msmarco"], "imported"),
        ("nfcorpus", {}, "not declared", f"not in {REGISTRY}", ["mteb/nfcorpus"], "imported"),
        ("mine", {}, "not declared", f"not in {IMPORT}", [], "imported"),
        ("mine", {"licence": "CC *BY*"}, "CC \\*BY\\*", IMPORT, [], "imported"),
        ("scifact", {"licence": "MIT"}, "MIT", IMPORT, ["mteb/scifact"], "imported"),
        (
            "mteb-x",
            {"from": "mteb:X", "origin": "mteb/x@1", "mteb": {}},
            *("not declared", "not in mteb", ["mteb/x"], "mteb/x@1"),
        ),
        (
            "mteb-x",
            {"from": "mteb:X", "origin": "mteb/x@1", "mteb": {}, "licence": "cc0-1.0"},
            *("cc0-1.0", "mteb", ["mteb/x"], "mteb/x@1"),
        ),
    ],
)
def test_a_training_set_has_its_licence_and_its_source(
    name, recorded, licence, stated_in, on_hub, source
):
    found = training_set(name, recorded)
    assert (found["licence"], found["stated_in"]) == (licence, stated_in)
    assert found["on_hub"] == on_hub
    assert found["source"].startswith(source)
