import json
import math
import random

import numpy as np
import pytest
import torch

from ragcun_cli.core.isotropy import transforms
from ragcun_cli.core.search import quantise
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.evaluation.what_if import UNTOUCHED, Change, WhatIf, changes_of, ladder
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.measuring_config import EvaluationConfig

CONFIG = EvaluationConfig()
WORDS = [
    "sea",
    "river",
    "star",
    "night",
    "stone",
    "tree",
    "wind",
    "fire",
    "snow",
    "rain",
    "bird",
    "fish",
    "moon",
    "sand",
    "hill",
    "road",
]


def texts(count, seed):
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, k=drawn.randint(3, 9))) for _ in range(count)]


def a_set(queries, seed, passages=120):
    """Queries with three graded passages each; the first query is a passage, too."""
    corpus = Corpus.of({f"d{at:03}": text for at, text in enumerate(texts(passages, 1))})
    names = ["d005", *(f"q{seed}-{at}" for at in range(1, queries))]
    drawn = random.Random(seed)
    qrels = {
        name: {f"d{drawn.randrange(passages):03}": grade for grade in (1, 1, 2)} for name in names
    }
    return JudgedSet("some", corpus, dict(zip(names, texts(queries, seed), strict=True)), qrels)


# By hand: everything in float64 numpy, from the embeddings that the model itself gives.


def transformed(change, sample):
    """The map of a change, by numpy alone where nothing in it is drawn or iterated."""
    mean = sample.mean(0)
    _, lengths, directions = np.linalg.svd(sample - mean, full_matrices=False)
    variances = lengths**2 / len(sample)
    name, _, number = change.transform.rpartition("-")
    if change.rotation != "none" or name == "spectral":
        rows = torch.from_numpy(sample).float()
        plain = transforms.fit_transform(change.transform, rows)
        affine = transforms.rotated(plain, change.rotation, rows)
        return lambda vectors: (vectors - affine.mean.numpy()) @ affine.matrix.numpy().T
    if name == "whitening":
        signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])
        with np.errstate(divide="ignore"):
            factors = np.where(
                variances > 1e-12 * variances[0], variances ** (-float(number) / 2), 0
            )
        scaled = directions * (signs * factors)[:, None]
        return lambda vectors: (vectors - mean) @ scaled.T
    if name == "all-but-the-top":
        top = directions[: int(number)]
        return lambda vectors: (vectors - mean) - (vectors - mean) @ top.T @ top
    return lambda vectors: vectors - mean * (change.transform != "none")


def ranked(change, own, queries, passages, sample):
    """Rows of each query, best first."""
    turn = transformed(change, sample)
    queries, passages, sample = turn(queries), turn(passages), turn(sample)
    similarity = change.similarity or own
    if change.form == "int8":
        single, sample = passages.astype(np.float32), sample.astype(np.float32)
        low, step = sample.min(0), (sample.max(0) - sample.min(0)) / np.float32(255)
        codes = np.floor((single - low) / np.where(step > 0, step, 1))  # ends are on a boundary
        passages = low + (np.clip(codes, 0, 255) + 0.5) * step
    elif change.form == "binary":
        queries, passages = (np.where(x > sample.mean(0), 1.0, -1.0) for x in (queries, passages))
        similarity = "dot"
    elif change.form != "fp32":
        width = int(change.form.removeprefix("truncate-"))
        queries, passages = queries[:, :width], passages[:, :width]
    queries = change.query_scale * queries
    scores = queries @ passages.T
    if similarity == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(passages, axis=1)
    if similarity == "euclidean":
        scores = -np.linalg.norm(queries[:, None] - passages[None], axis=2)
    return np.argsort(-np.round(scores, 9), axis=1, kind="stable")


def ndcg(judged, found):
    def gain(grades):
        return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:10]))

    return gain([judged.get(name, 0) for name in found]) / gain(sorted(judged.values())[::-1])


@pytest.mark.parametrize("own", ["cosine", "euclidean"])
def test_scores_are_those_of_a_search_by_hand(model, own):
    tests = [a_set(9, seed=2), a_set(7, seed=3)]
    tests[1] = JudgedSet("some", tests[1].corpus, *without_first(tests[1]))
    config = CONFIG.model_copy(update={"similarity": own})
    groups = changes_of(32, own)
    changes = [*dict.fromkeys(change for some in groups.values() for change in some)]
    assert 90 < len(changes) < 110
    found = WhatIf(model, config, Silent()).scores(tests, changes)
    passages = model.encode(tests[0].corpus.texts[:]).astype(np.float64)
    for test, scores in zip(tests, found, strict=True):
        assert list(scores) != []
        queries = model.encode([*test.queries.values()]).astype(np.float64)
        for change in changes:
            rows = ranked(change, own, queries, passages, passages)
            expected = []
            for query, best in zip(test.queries, rows, strict=True):
                names = [f"d{row:03}" for row in best if f"d{row:03}" != query]
                expected.append(ndcg(test.qrels[query], names))
            np.testing.assert_allclose(scores[change], expected, atol=1e-6, err_msg=change.name)
    assert len({tuple(np.round(one, 6)) for one in found[0].values()}) > 20


def without_first(test):
    names = [*test.queries][1:]
    return {name: test.queries[name] for name in names}, {name: test.qrels[name] for name in names}


# What may decide: passages and dev queries.


@pytest.fixture
def take_in(ragcun, tmp_path):
    """Call it for the folder of a stored set with these splits: split -> judged set."""

    def imported(name, splits):
        source = tmp_path / f"{name}-source"
        (source / "qrels").mkdir(parents=True)
        corpus = next(iter(splits.values())).corpus
        rows = [
            {"_id": one, "text": text} for one, text in zip(corpus.ids, corpus.texts, strict=True)
        ]
        queries = {
            query: text for split in splits.values() for query, text in split.queries.items()
        }
        asked = [{"_id": query, "text": text} for query, text in queries.items()]
        for file, some in (("corpus", rows), ("queries", asked)):
            lines = "".join(json.dumps(row) + "\n" for row in some)
            (source / f"{file}.jsonl").write_text(lines)
        for split, test in splits.items():
            lines = [
                f"{query}\t{passage}\t{grade}\n"
                for query, judged in test.qrels.items()
                for passage, grade in judged.items()
            ]
            (source / f"qrels/{split}.tsv").write_text(
                "query-id\tcorpus-id\tscore\n" + "".join(lines)
            )
        outcome = ragcun("data", "import", source, "--name", name, "-w", tmp_path / "ws")
        assert outcome.code == 0, outcome.err
        return tmp_path / "ws/data/datasets" / name

    return imported


def named(test, prefix):
    """The set with names of its own for its queries."""
    queries = {prefix + name: text for name, text in test.queries.items()}
    qrels = {prefix + name: judged for name, judged in test.qrels.items()}
    return JudgedSet(test.name, test.corpus, queries, qrels)


@pytest.fixture
def fitted(monkeypatch):
    """Everything that maps and forms are fitted to, and what comes of it, in order: watched."""
    seen = []

    def watch(owner, name):
        real = getattr(owner, name)

        def watched(*args, **more):
            found = real(*args, **more)
            seen.extend(one for one in (*args, found) if not hasattr(one, "kind"))
            return found

        monkeypatch.setattr(owner, name, watched)

    watch(transforms, "fit_transform")
    watch(transforms, "rotated")
    watch(quantise.Variant, "fit")
    return seen


def arrays(seen):
    """Of what was watched, all that are numbers, and what forms make of a vector."""
    found = []
    for one in seen:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, transforms.Affine):
            found += [one.mean, one.matrix]
        elif isinstance(one, quantise.Codec):
            found += [one.passages(torch.linspace(-1, 1, 32)[None])]
    return found


def test_planted_test_queries_move_no_transform_no_form_and_no_choice(
    model, take_in, fitted, tmp_path
):
    dev, other = named(a_set(30, seed=4), "dev-"), named(a_set(30, seed=7), "other-")
    found, fits = {}, {}
    for name, splits in {
        "before": {"test": a_set(9, seed=2), "dev": dev},
        "planted": {"test": a_set(25, seed=6), "dev": dev},
        "chosen": {"test": a_set(9, seed=2), "dev": other},
    }.items():
        fitted.clear()
        draft = tmp_path / name
        draft.mkdir()
        WhatIf(model, CONFIG, Silent()).write({name: take_in(name, splits)}, [name], [name], draft)
        found[name], fits[name] = json.loads((draft / "what_if.json").read_text()), arrays(fitted)

    def chosen(name):
        return {group: one["name"] for group, one in found[name]["chosen"].items()}

    assert len(fits["before"]) > 300
    for name in ("planted", "chosen"):
        for one, before in zip(fits[name], fits["before"], strict=True):
            assert torch.equal(one, before)
    assert chosen("planted") == chosen("before")
    assert found["planted"]["untouched"]["ndcg@10"] != found["before"]["untouched"]["ndcg@10"]
    for one, before in zip(found["planted"]["rungs"], found["before"]["rungs"], strict=True):
        assert one["dev_by_set"]["planted"] == before["dev_by_set"]["before"]
    assert chosen("chosen") != chosen("before")


def test_dev_queries_that_are_test_queries_are_left_out(model, take_in, tmp_path):
    test = a_set(9, seed=2)
    half = named(a_set(4, seed=4), "dev-")
    queries = half.queries | {"dev-same": f"  {test.queries['q2-1'].upper()} "}
    qrels = half.qrels | {"dev-same": {"d001": 1}}
    shared = JudgedSet("some", test.corpus, queries, qrels)
    for name, dev in (("half", half), ("shared", shared)):
        draft = tmp_path / name
        draft.mkdir()
        folder = take_in(name, {"test": test, "dev": dev})
        WhatIf(model, CONFIG, Silent()).write({name: folder}, [name], [name], draft)
    found = [json.loads((tmp_path / f"{n}/what_if.json").read_text()) for n in ("half", "shared")]
    assert found[0]["untouched"]["dev"] == found[1]["untouched"]["dev"]
    folder = take_in("every", {"test": test, "dev": named(test, "dev-")})
    with pytest.raises(DataError, match="no dev queries that are none of those it reports on"):
        WhatIf(model, CONFIG, Silent()).write({"every": folder}, ["every"], ["every"], tmp_path)
    other = take_in("other", {"test": a_set(5, seed=5), "dev": shared})
    folder = take_in("first", {"test": test})
    with pytest.raises(DataError, match="--dev: 1 queries of the selection set are test queries"):
        WhatIf(model, CONFIG, Silent()).write(
            {"first": folder, "other": other}, ["first"], ["other"], tmp_path
        )


# The ladder, from scores by hand.

HALF, FULL, BITS = Change("whitening-0.5"), Change("whitening-1"), Change(form="binary")
TURNED = Change("whitening-1", "rotation-itq", "binary")
GROUPS = {"fp32": [UNTOUCHED, HALF, FULL], "binary": [BITS, TURNED]}


def scores(*means):
    """Of four queries, those means with some spread."""
    spread = np.array([-0.1, 0.1, -0.2, 0.2])
    changes = (UNTOUCHED, HALF, FULL, BITS, TURNED)
    return {
        change: mean + spread * (at + 1)
        for at, (change, mean) in enumerate(zip(changes, means, strict=True))
    }


def test_a_ladder_by_hand():
    test = {"a": scores(0.5, 0.6, 0.4, 0.3, 0.35), "b": scores(0.3, 0.3, 0.3, 0.1, 0.2)}
    dev = {"c": scores(0.5, 0.5, 0.4, 0.2, 0.3)}
    found = ladder(GROUPS, test, dev)
    assert [one["name"] for one in found["rungs"]] == [
        *("whitening-0.5", "whitening-1", "binary", "whitening-1 + rotation-itq + binary")
    ]
    assert found["untouched"]["ndcg@10"] == pytest.approx(0.4)
    assert found["rungs"][0]["difference"][0] == pytest.approx(0.05)
    assert found["rungs"][0]["by_set"] == pytest.approx({"a": 0.6, "b": 0.3})
    assert found["rungs"][0]["dev"] == pytest.approx(0.5)
    # Equal on dev: the first.
    assert {name: one["name"] for name, one in found["chosen"].items()} == {
        "fp32": "untouched",
        "binary": "whitening-1 + rotation-itq + binary",
    }
    assert found["chosen"]["binary"]["difference"][0] == pytest.approx(0.075)
    assert found["chosen"]["binary"]["dev_untouched"] == pytest.approx(0.2)
    # Two sets of four paired differences of variance 1/30 times the spread's: by hand.
    deviation = np.std([-0.1, 0.1, -0.2, 0.2], ddof=1)
    half = found["rungs"][0]["difference"][2] - 0.05
    assert half == pytest.approx(2.446912 * deviation / np.sqrt(8), rel=1e-5)
    ps = sorted(one["p"] for one in found["rungs"])
    assert min(one["p_holm"] for one in found["rungs"]) == pytest.approx(min(1, 4 * ps[0]))


def test_without_dev_queries_nothing_is_chosen():
    found = ladder(GROUPS, {"a": scores(0.5, 0.6, 0.4, 0.3, 0.9)}, {})
    assert found["chosen"] == {}
    assert {one["dev"] for one in found["rungs"]} == {None}
    assert [one["name"] for one in found["rungs"]] == ["whitening-0.5", "whitening-1", "binary"]
