import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from drafts import contents
from hypothesis import given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.beir import words as beir_words
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.mining.journal import Journal
from ragcun_cli.pipeline.mining.mine import mine
from ragcun_cli.pipeline.mining.rows import MinedRow, look_up, read_rows
from ragcun_cli.pipeline.search.lexical.search import LexicalIndex
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import DataConfig

WORDS = [
    "tide",
    "moon",
    "ship",
    "storm",
    "harbour",
    "anchor",
    "sail",
    "rope",
    "wind",
    "reef",
    "pilot",
    "chart",
    "buoy",
    "crew",
    "deck",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """60 passages of sea words; the relevant one of each query also stands there as a twin."""
    folder = tmp_path_factory.mktemp("mine") / "sea"
    draw = random.Random(3)
    corpus = {f"p{n:02}": f"Number {n}: " + " ".join(draw.choices(WORDS, k=8)) for n in range(60)}
    corpus |= {f"twin{n:02}": corpus[f"p{n:02}"].upper() + " !" for n in range(20)}
    queries = {f"q{n:02}": " ".join(corpus[f"p{n:02}"].split()[2:6]) for n in range(20)}
    train = {f"q{n:02}": {f"p{n:02}": 1, f"p{n + 20:02}": 2, f"p{n + 40:02}": 0} for n in range(20)}
    qrels = {"train": train, "test": {"q00": {"p00": 1}}}
    beir.write_set(folder, corpus=corpus, queries=queries, qrels=qrels)
    return folder


def mined(dataset, tmp_path, *, seed=1, max_train_queries=None, **mining):
    draft = tmp_path / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    summary = mine(
        dataset,
        draft,
        data=DataConfig(train="sea", max_train_queries=max_train_queries),
        mining=MiningConfig(**mining),
        seed=seed,
        workspace=Workspace(tmp_path, tmp_path),
        progress=Silent(),
    )
    assert json.loads((draft / "summary.json").read_text(encoding="utf-8")) == summary
    return list(read_rows(draft / "negatives.jsonl")), summary


@pytest.mark.parametrize("hard_share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_negative_is_relevant_or_a_twin_of_a_relevant_passage(
    dataset, tmp_path, seed, hard_share
):
    rows, _ = mined(dataset, tmp_path, seed=seed, negatives_per_query=8, hard_share=hard_share)
    assert [len(row.hard) for row in rows] == [8 * hard_share] * 20
    assert [len(row.random) for row in rows] == [8 - 8 * hard_share] * 20
    for row in rows:
        number = int(row.query[1:])
        relevant = {f"p{number:02}", f"p{number + 20:02}", f"twin{number:02}"}
        assert not {*row.hard, *row.random} & relevant


def test_a_passage_judged_not_relevant_is_the_first_hard_negative(dataset, tmp_path):
    rows, _ = mined(dataset, tmp_path, negatives_per_query=1, hard_share=1.0)
    assert [row.hard for row in rows] == [(f"p{n + 40:02}",) for n in range(20)]


def test_a_twin_of_a_relevant_passage_would_have_been_the_best_hit(dataset, tmp_path):
    rows, _ = mined(dataset, tmp_path, depth=1, negatives_per_query=1, hard_share=1.0)
    assert [len(row.hard) for row in rows] == [1] * 20
    assert not any(row.hard[0] == f"twin{row.query[1:]}" for row in rows)


def test_there_is_one_row_for_each_query_in_the_order_of_the_judgements(dataset, tmp_path):
    rows, summary = mined(dataset, tmp_path, negatives_per_query=4)
    assert [row.query for row in rows] == [f"q{n:02}" for n in range(20)]
    for row in rows:
        assert (len(row.hard), len(row.random)) == (2, 2)
        assert len({row.positive, *row.hard, *row.random}) == 5
    expected = {
        "passages": 80,
        "queries": 20,
        "hard_negatives": 40,
        "random_negatives": 40,
        "queries_short_of_hard_negatives": 0,
        "queries_without_hits": 0,
        "queries_without_positive": 0,
    }
    assert expected.items() <= summary.items()
    assert sum(summary["rank_of_positive"].values()) == 20
    assert summary["dropped"]["same_text"] == 20


def test_an_odd_share_gives_the_odd_negative_to_either_kind(dataset, tmp_path):
    rows, _ = mined(dataset, tmp_path, negatives_per_query=3, hard_share=0.5)
    assert {(len(row.hard), len(row.random)) for row in rows} == {(1, 2), (2, 1)}


def test_the_positive_is_drawn_among_the_passages_judged_above_zero(dataset, tmp_path):
    seen = set()
    for seed in range(1, 6):
        for row in mined(dataset, tmp_path, seed=seed)[0]:
            number = int(row.query[1:])
            assert row.positive in {f"p{number:02}", f"p{number + 20:02}"}
            seen.add(int(row.positive[1:]) - number)
    assert seen == {0, 20}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(dataset, tmp_path):
    written = []
    for number, seed in enumerate((1, 1, 2)):
        (tmp_path / str(number)).mkdir()
        mined(dataset, tmp_path / str(number), seed=seed)
        written.append((tmp_path / str(number) / "draft" / "negatives.jsonl").read_bytes())
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_a_sample_of_the_queries_keeps_their_rows_as_they_were(dataset, tmp_path):
    everything = {row.query: row for row in mined(dataset, tmp_path)[0]}
    few, summary = mined(dataset, tmp_path, max_train_queries=7)
    assert len(few) == summary["queries"] == 7
    assert [row.query for row in few] == sorted(row.query for row in few)
    assert all(row == everything[row.query] for row in few)
    more = mined(dataset, tmp_path, max_train_queries=8)[0]
    assert {row.query for row in few} < {row.query for row in more}
    other = mined(dataset, tmp_path, max_train_queries=7, seed=2)[0]
    assert {row.query for row in few} != {row.query for row in other}
    assert len(mined(dataset, tmp_path, max_train_queries=1000)[0]) == 20


def test_hard_negatives_are_among_the_best_hits_after_those_skipped(tmp_path):
    corpus = {"best": "tide tide tide", "next": "tide tide of", "third": "tide of it", "pos": "ebb"}
    corpus |= {f"other{n}": f"granite number {n}" for n in range(9)}
    beir.write_set(
        tmp_path / "sea",
        corpus=corpus,
        queries={"q": "tide"},
        qrels={"train": {"q": {"pos": 1}}},
    )
    plain = {"stemmer": "none", "stopwords": "none", "hard_share": 1.0, "negatives_per_query": 1}
    rows, _ = mined(tmp_path / "sea", tmp_path, depth=1, **plain)
    assert rows == [MinedRow("q", "pos", ("best",), ())]
    rows, _ = mined(tmp_path / "sea", tmp_path, depth=2, skip_top=1, **plain)
    assert rows == [MinedRow("q", "pos", ("next",), ())]
    seen = {
        mined(tmp_path / "sea", tmp_path, depth=2, seed=seed, **plain)[0][0].hard
        for seed in range(1, 20)
    }
    assert seen == {("best",), ("next",)}


def test_random_passages_make_up_for_hits_that_are_missing(tmp_path):
    corpus = {"pos": "tide", "hit": "tide again"} | {f"other{n}": f"granite {n}" for n in range(5)}
    beir.write_set(
        tmp_path / "sea",
        corpus=corpus,
        queries={"q": "tide"},
        qrels={"train": {"q": {"pos": 1}}},
    )
    rows, summary = mined(tmp_path / "sea", tmp_path, negatives_per_query=3, hard_share=1.0)
    assert rows[0].hard == ("hit",)
    assert len(rows[0].random) == 2
    assert set(rows[0].random) < {f"other{n}" for n in range(5)}
    assert summary["queries_short_of_hard_negatives"] == 1


def test_a_query_without_a_relevant_passage_gets_no_row(tmp_path):
    corpus = {f"p{n}": f"tide {n}" for n in range(9)}
    judged = {"q1": {"p1": 0}, "q2": {"p2": 1}}
    queries = {"q1": "tide", "q2": "tide"}
    beir.write_set(tmp_path / "sea", corpus=corpus, queries=queries, qrels={"train": judged})
    assert [row.query for row in mined(tmp_path / "sea", tmp_path)[0]] == ["q2"]
    beir.write_set(
        tmp_path / "none", corpus=corpus, queries=queries, qrels={"train": {"q1": {"p1": 0}}}
    )
    with pytest.raises(DataError, match="no training query has a relevant passage"):
        mined(tmp_path / "none", tmp_path)


def test_a_corpus_too_small_for_the_negatives_is_refused(tmp_path):
    beir.write_set(
        tmp_path / "sea",
        corpus={"pos": "tide", "a": "x1"},
        queries={"q": "tide"},
        qrels={"train": {"q": {"pos": 1}}},
    )
    with pytest.raises(DataError, match=r"^query 'q'[^']* 2 random negatives"):
        mined(tmp_path / "sea", tmp_path)


def test_a_data_set_without_train_judgements_is_refused(dataset, tmp_path):
    beir.write_set(tmp_path / "sea", corpus={"a": "x"}, queries={"q": "x"}, qrels={"test": {}})
    with pytest.raises(DataError, match=r"train\.tsv is missing"):
        mined(tmp_path / "sea", tmp_path)


def test_a_mining_that_was_stopped_goes_on_to_the_same_bytes(dataset, tmp_path, monkeypatch):
    mined(dataset, tmp_path)
    whole = contents(tmp_path / "draft")
    for rows in (0, 1, 7, 19, 20):
        draft = tmp_path / f"stopped-{rows}"
        draft.mkdir()
        names = ("negatives.jsonl", "details.jsonl")
        written = [whole[name].splitlines() for name in names]
        with Journal(draft, names) as journal:
            for row, facts in zip(*(lines[:rows] for lines in written), strict=True):
                journal.add(json.loads(row), json.loads(facts))
        with (draft / "negatives.jsonl").open("ab") as torn:
            torn.write(b"".join(written[0][rows : rows + 1])[:9])
        searched = []
        search = LexicalIndex.search_batches

        def watched(self, queries, *, searched=searched, search=search, **options):
            searched += queries
            return search(self, queries, **options)

        with monkeypatch.context() as watch:
            # Nothing outside shows whether a query that has its row is searched once more.
            watch.setattr(LexicalIndex, "search_batches", watched)
            mine(
                dataset,
                draft,
                data=DataConfig(train="sea"),
                mining=MiningConfig(),
                seed=1,
                workspace=Workspace(tmp_path, tmp_path),
                progress=Silent(),
            )
        assert len(searched) == 20 - rows
        assert contents(draft) == whole


def test_hits_that_score_nearly_as_the_positive_are_left_out_where_that_is_asked(dataset, tmp_path):
    rows, summary = mined(
        dataset, tmp_path, max_score_ratio=0.5, negatives_per_query=3, hard_share=1
    )
    details = (tmp_path / "draft/details.jsonl").read_text().splitlines()
    hard = 0
    for row, line in zip(rows, details, strict=True):
        facts = json.loads(line)
        given = f"p{int(row.query[1:]) + 40:02}"  # judged not relevant, whatever it scores
        scores = [s for name, s in zip(row.hard, facts["hard"], strict=True) if name != given]
        hard += len(scores)
        assert all(score < 0.5 * facts["positive"] for score in scores)
    assert hard > 0
    assert summary["dropped"]["score_ratio"] > 0
    assert "score_ratio" not in mined(dataset, tmp_path)[1]["dropped"]


def test_hits_that_share_words_with_a_relevant_passage_are_left_out_where_that_is_asked(tmp_path):
    corpus = {
        "good": "the tide turns at noon today",
        "near": "the tide turns at noon again",
        "far": "a tide of letters",
        "none": "nothing of that kind",
        "more": "something else",
    }
    beir.write_set(
        tmp_path / "sea",
        corpus=corpus,
        queries={"q": "tide turns"},
        qrels={"train": {"q": {"good": 1}}},
    )
    alone = {"negatives_per_query": 1, "hard_share": 1.0, "depth": 2}
    first, _ = mined(tmp_path / "sea", tmp_path, **{**alone, "depth": 1})
    assert first[0].hard == ("near",)
    rows, summary = mined(tmp_path / "sea", tmp_path, near_duplicate=0.7, **alone)
    assert rows[0].hard == ("far",)
    assert summary["dropped"] == {"relevant": 1, "same_text": 0, "near_duplicate": 1}


def test_queries_of_unknown_words_get_random_negatives_and_are_counted(tmp_path):
    corpus = {f"p{n}": f"tide {n}" for n in range(9)}
    beir.write_set(
        tmp_path / "sea",
        corpus=corpus,
        queries={"q": "xylophone?", "p": "...", "r": "tide", "s": "tide?"},
        qrels={"train": {name: {"p1": 1} for name in "qprs"}},
    )
    rows, summary = mined(tmp_path / "sea", tmp_path, negatives_per_query=2)
    drawn = {row.query: (len(row.hard), len(row.random)) for row in rows}
    assert drawn == {"q": (0, 2), "p": (0, 2), "r": (1, 1), "s": (1, 1)}
    assert summary["queries_without_hits"] == 2
    assert summary["queries_short_of_hard_negatives"] == 2
    assert summary["rank_of_positive"]["no hit"] == 2


def test_one_query_can_be_looked_at(dataset, tmp_path):
    rows, _ = mined(dataset, tmp_path)
    query, positive, *negatives = look_up(tmp_path / "draft", dataset, "q07")
    assert query["text"] == beir.read_queries(dataset)["q07"]
    assert positive["id"] in ("p07", "p27")
    assert [p["id"] for p in negatives] == [*rows[7].hard, *rows[7].random]
    assert {p["kind"] for p in negatives} == {"hard", "random"}
    assert all(passage["text"].startswith("N") for passage in (positive, *negatives))
    with pytest.raises(DataError, match="no query 'q99' was mined"):
        look_up(tmp_path / "draft", dataset, "q99")


@settings(max_examples=40)
@given(
    grades=st.lists(
        st.dictionaries(st.integers(0, 29), st.integers(-1, 3), min_size=1, max_size=12),
        min_size=1,
        max_size=8,
    ),
    seed=st.integers(0, 99),
    hard_share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_no_relevant_passage_is_ever_a_negative(tmp_path_factory, grades, seed, hard_share):
    root = tmp_path_factory.mktemp("any")
    corpus = {
        f"p{n:02}": " ".join(WORDS[(n * k) % len(WORDS)] for k in (1, 2, 3)) for n in range(30)
    }
    texts = {name: beir_words(text) for name, text in corpus.items()}
    judged = {f"q{n}": {f"p{p:02}": g for p, g in row.items()} for n, row in enumerate(grades)}
    judged["q"] = {"p00": 1}
    beir.write_set(
        root / "sea",
        corpus=corpus,
        queries={query: WORDS[3] for query in judged},
        qrels={"train": judged},
    )
    rows, _ = mined(root / "sea", root, seed=seed, negatives_per_query=4, hard_share=hard_share)
    relevant = {q: {p for p, grade in row.items() if grade > 0} for q, row in judged.items()}
    assert [row.query for row in rows] == sorted(q for q in judged if relevant[q])
    for row in rows:
        negatives = [*row.hard, *row.random]
        assert len(set(negatives)) == 4
        assert len(row.hard) <= 4 * hard_share
        assert row.positive in relevant[row.query]
        twins = {texts[passage] for passage in relevant[row.query]}
        assert not {texts[passage] for passage in negatives} & twins


KILLED = Path(__file__).with_name("killed_mining.py")


def test_a_mining_that_was_killed_three_times_goes_on_to_the_same_bytes(dataset, tmp_path):
    mined(dataset, tmp_path)
    whole = contents(tmp_path / "draft")
    root = tmp_path / "killed"
    (root / "draft").mkdir(parents=True)
    found = []
    for writes in (1, 3, 2, 0):
        command = [sys.executable, KILLED, dataset, root, "3", str(writes)]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == (-signal.SIGKILL if writes else 0), done.stderr
        found.append((root / "draft/negatives.jsonl").read_bytes().count(b"\n"))
    assert found == [3, 12, 18, 20]
    assert contents(root / "draft") == whole


def deaf(folder, deaf_queries, queries=8):
    """A set in which some queries share no word with any passage."""
    corpus = {f"p{n}": f"tide {WORDS[n]}" for n in range(12)}
    texts = {f"q{n}": "granite" if n < deaf_queries else WORDS[n] for n in range(queries)}
    train = {f"q{n}": {f"p{n}": 1} for n in range(queries)}
    beir.write_set(
        folder, corpus=corpus, queries=texts, qrels={"train": train, "dev": {"q0": {"p0": 1}}}
    )
    return folder


def test_a_mining_in_which_most_queries_have_no_hit_stops_and_says_why(tmp_path):
    with pytest.raises(DataError) as caught:
        mined(deaf(tmp_path / "five", 5), tmp_path)
    assert "5 of 8 training queries share no word with any passage" in str(caught.value)
    assert "mining.hard_share=0" in caught.value.hint
    assert not (tmp_path / "draft/summary.json").exists()
    _, summary = mined(deaf(tmp_path / "half", 4), tmp_path)
    assert summary["queries_without_hits"] == 4
    rows, _ = mined(tmp_path / "five", tmp_path, hard_share=0.0)  # nothing of BM25 is wanted
    assert [len(row.random) for row in rows] == [2] * 8
