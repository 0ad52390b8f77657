import json
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.checks.overlap import overlap
from ragcun_cli.pipeline.data.proxy.build import make_pairs
from ragcun_cli.pipeline.data.proxy.documents import cut, document_of, first_sentence
from ragcun_cli.pipeline.data.proxy.markup import read_html, read_markdown, read_plain
from ragcun_cli.pipeline.data.proxy.settings import PairSettings
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import DataError

NOUNS = [
    "engine",
    "valve",
    "river",
    "copper",
    "lantern",
    "orchard",
    "ledger",
    "harbour",
    "needle",
    "granite",
]


def prose(seed, sentences=6):
    """Sentences of numbered words, which no other seed shares."""
    words = random.Random(seed)
    return " ".join(
        f"The {words.choice(NOUNS)}{seed} has {words.choice(NOUNS)}{words.randrange(10**6)} "
        f"and meets {words.choice(NOUNS)}{words.randrange(10**6)} in {words.randrange(10**6)}."
        for _ in range(sentences)
    )


def rows(tmp_path, *found):
    file = tmp_path / "docs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    return file


def made(source, keep=None, **options):
    draft = Path(tempfile.mkdtemp(dir=source.parent)) / "draft"
    found = make_pairs(source, draft, PairSettings(**options), keep=keep, progress=Silent())
    return draft, found


def asked(draft):
    """Query -> texts of its passages; and the split that each stands in."""
    corpus, queries = Corpus.open(draft), beir.read_queries(draft)
    splits = beir.read_splits(draft)
    pairs = {(split, query, *ids) for split, some in splits.items() for query, ids in some.items()}
    return {queries[query]: (split, corpus.texts_by_id(ids)) for split, query, *ids in pairs}


# Text of three kinds


def test_html_is_read_under_its_headings_without_scripts():
    page = """<html><head><title>Site &amp; more</title><style>p {}</style></head><body>
      <p>Before all <b>bold</b>er.<h1>Guide <em>one</em></h1><script>var x = "<h1>no</h1>";</script>
      First&nbsp;text<br>second<h3>Deep</h3><pre>a
      b</pre><h2>Beside</h2><ul><li>one<li>two</ul></body>"""
    title, sections = read_html(page)
    assert title == "Guide one"
    assert sections == [
        ((), "Before all bolder."),
        (("Guide one",), "First text\nsecond"),
        (("Guide one", "Deep"), "a b"),
        (("Guide one", "Beside"), "one\ntwo"),
    ]
    assert read_html("<title>Only</title>text") == ("Only", [((), "text")])


def test_markdown_is_read_under_its_headings():
    text = "---\ntitle: 'In front'\n---\nlead\n\n# A *b*\n\n- one\n- two `x`\n"
    text += "\nC\n-\n\n|h|\n|-|\n|v|\n"
    assert read_markdown(text) == (
        "In front",
        [((), "lead"), (("A b",), "one\ntwo x"), (("A b", "C"), "h\nv")],
    )
    assert read_plain("a\nb\n \nc\n\n") == ("", [((), "a b\nc")])
    assert read_plain(" \n") == ("", [])


@given(
    st.text(st.sampled_from("ab .!?\n東京。é"), max_size=200),
    st.integers(1, 12),
)
def test_pieces_are_the_text_in_order_and_none_is_too_long(text, most):
    pieces = cut(text, most)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    for piece in pieces:
        spaced = "".join(f" {letter} " if letter in "東京" else letter for letter in piece)
        assert 1 <= len(spaced.split()) <= most
    sentence, rest = first_sentence(text)
    assert "".join((sentence + rest).split()) == "".join(text.split())


def test_pieces_end_with_sentences_where_they_can():
    text = "One two three four. Five six seven eight nine. Ten eleven twelve."
    assert cut(text, 6) == [
        "One two three four.",
        "Five six seven eight nine.",
        "Ten eleven twelve.",
    ]
    assert cut("one two three four five", 2) == ["one two", "three four", "five"]
    assert cut("東京都に住む", 4) == ["東京都に", "住む"]


@pytest.mark.parametrize(
    "sentence",
    [
        "0 A.D. (pronounced so) is a game.",
        "Tools, e.g. GNU make, by J. Smith and Dr. Who.",
        'He said "Go!"',
        "これは文です。",
        "यह एक वाक्य है।",
    ],
)
def test_a_first_sentence_ends_at_its_stop(sentence):
    assert first_sentence(f"{sentence} Another one follows.") == (sentence, "Another one follows.")


# Queries


def docs(count, **more):
    return [
        {"_id": f"d{n}", "title": f"About thing{n}", "text": prose(n), **more} for n in range(count)
    ]


def test_a_title_asks_for_its_document_and_stands_in_no_passage(tmp_path):
    found = docs(12)
    found[3]["text"] = f"About  Thing3 is near. {found[3]['text']}"
    draft, details = made(rows(tmp_path, *found), pairs="title", passage_words=40)
    pairs = asked(draft)
    assert pairs.keys() == {f"About thing{n}" for n in range(12)}
    for query, (_, texts) in pairs.items():
        number = query.removeprefix("About thing")
        assert len(texts) == 2
        assert not any("about thing" in text.lower() for text in texts)
        assert all(f"{number} has" in text for text in texts)
    assert details["proxy"]["give_aways"] == 1
    assert details["judged"] == {"train": 10, "dev": 1, "test": 1}
    assert details["about"].startswith("imported; proxy queries")


def test_a_first_sentence_leaves_the_passage_it_asks_for_and_no_other(tmp_path):
    source = rows(tmp_path, *docs(30))
    draft, details = made(source, pairs="first-sentence", max_pairs=10)
    pairs = asked(draft)
    assert len(pairs) == 10
    texts = dict(zip(Corpus.open(draft).ids, Corpus.open(draft).texts, strict=True))
    whole = {f"d{n}": f"About thing{n} {prose(n)}" for n in range(30)}
    short = {name for name in whole if texts[name] != whole[name]}
    assert len(short) == 10
    for name in short:
        sentence, rest = first_sentence(whole[name].split(maxsplit=2)[2])
        assert pairs[sentence][1] == [texts[name]]
        assert texts[name].endswith(rest)
    assert details["proxy"]["counts"]["pairs"]["left_out"]["more than --max-pairs"]["count"] == 20
    again, _ = made(rows(tmp_path, *reversed(docs(30))), pairs="first-sentence", max_pairs=10)
    assert asked(again) == pairs


def test_a_first_sentence_that_is_the_title_too_makes_no_pair(tmp_path):
    found = docs(9)
    found[0]["text"] = f"{found[0]['title']}! {found[0]['text']}"
    draft, details = made(rows(tmp_path, *found), pairs="first-sentence")
    assert len(asked(draft)) == 8
    left = details["proxy"]["counts"]["pairs"]["left_out"]
    assert left == {
        "whose query stands in its passage word for word": {"count": 1, "first": "About thing0!"}
    }


def test_a_heading_asks_for_all_passages_under_it(tmp_path):
    folder = tmp_path / "guide" / "deep"
    folder.mkdir(parents=True)
    for n in range(4):
        text = (
            f"# Guide{n}\n\n{prose(n)}\n\n## Install it{n}\n\nInstall it{n}: {prose(n + 50, 12)}\n"
        )
        (folder / f"a b{n}.md").write_text(text)
    draft, details = made(tmp_path / "guide", pairs="heading", dev_queries=0)
    assert "deep/a%20b0.md#3" in Corpus.open(draft).ids
    pairs = asked(draft)
    assert {len(texts) for _, texts in pairs.values()} == {2}
    assert pairs.keys() == {f"Guide{n}: Install it{n}" for n in range(4)}
    assert details["proxy"]["give_aways"] == 4
    left = details["proxy"]["counts"]["pairs"]["left_out"]
    assert {why: one["count"] for why, one in left.items()} == {
        "whose query is not of 2 to 64 words": 4
    }


def test_queries_that_were_made_elsewhere_are_taken_for_the_passages_they_name(tmp_path):
    source, file = rows(tmp_path, *docs(8)), tmp_path / "generated.jsonl"
    lines = [{"query": f"what is written of {n}?", "passage_id": f"d{n}"} for n in range(8)]
    lines += [
        {"query": "and what else of 3?", "passage_id": "d3"},
        {"query": "a question for nobody", "passage_id": "elsewhere#1"},
        {"query": "who meets whom", "passage_id": "d1"},
        {"query": "who meets whom", "passage_id": "d2"},
        {"query": "about THING5", "passage_id": "d5"},
        {"query": "", "passage_id": "d5"},
        {"query": "why", "passage_id": "d5"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draft, details = made(source, queries=file)
    tally = details["proxy"]["counts"]["pairs"]
    assert (tally["seen"], tally["used"]) == (15, 9)
    assert {why: one["count"] for why, one in tally["left_out"].items()} == {
        "that name no passage": 1,
        "whose query fits several passages": 2,
        "whose query stands in its passage word for word": 1,
        "without a query": 1,
        "whose query is not of 2 to 64 words": 1,
    }
    pairs = asked(draft)
    assert pairs["and what else of 3?"] == pairs["what is written of 3?"]
    assert pairs["and what else of 3?"][1] == [f"About thing3 {prose(3)}"]
    file.write_text('{"query": "a question", "passage_id": "d99"}\n')
    with pytest.raises(DataError, match=r"none of 1 rows .* these are named 'd0', 'd1', 'd2'"):
        made(source, queries=file)
    file.write_text('{"query": "a question"}\n')
    with pytest.raises(DataError, match=r'generated.jsonl:1: "query" and "passage_id"'):
        made(source, queries=file)


# Leaks


def leaky(tmp_path):
    """Twenty documents of two passages, each with a twin of another name and one other word."""
    found = docs(20)
    for row in docs(20):
        text = row["text"].replace(".", "!", 1)[:-2] + "x."
        found.append({"_id": f"twin-{row['_id']}", "title": f"{row['title']} again", "text": text})
    return rows(tmp_path, *found)


def test_no_query_of_test_shares_a_document_or_a_near_duplicate_with_training(tmp_path):
    source = leaky(tmp_path)
    draft, details = made(source, pairs="first-sentence", passage_words=30, test_queries=8)
    splits = beir.read_splits(draft)
    assert len(splits["test"]) <= 8
    documents = {
        split: {document_of(name) for ids in some.values() for name in ids}
        for split, some in splits.items()
    }
    assert documents["test"]
    assert not documents["test"] & (documents["train"] | documents["dev"])
    found = overlap(draft, "test", draft, progress=Silent())
    assert (found.same_queries, found.near_queries, found.same_relevant_passages) == (0, 0, 0)
    left = details["proxy"]["counts"]["pairs"]["left_out"]
    assert left["whose passage was left out"]["count"] >= 35
    assert details["queries"] >= 35


def test_a_leak_that_is_planted_is_found(tmp_path):
    draft, _ = made(rows(tmp_path, *docs(20)), pairs="first-sentence", passage_words=30)
    splits, queries = beir.read_splits(draft), beir.read_queries(draft)
    query, judged = next(iter(splits["test"].items()))
    queries["leak"], splits["train"]["leak"] = f"{queries[query]} Indeed", judged
    beir.write_judged(draft, queries=queries, splits=splits)
    found = overlap(draft, "test", draft, progress=Silent())
    assert (found.near_queries, found.same_relevant_passages) == (1, 1)


def test_copies_and_near_duplicates_leave_the_passages_and_are_counted(tmp_path):
    found = docs(8)
    found.append(
        {"_id": "e-copy", "title": "", "text": f"about  THING0 {found[0]['text'].upper()}"}
    )
    found.append({"_id": "e-near", "title": "", "text": f"about thing1 {found[1]['text']} plus"})
    draft, details = made(rows(tmp_path, *found), pairs="first-sentence", passage_words=200)
    tally = details["proxy"]["counts"]["passages"]
    assert tally["used"] == details["passages"] == len(Corpus.open(draft))
    assert tally["seen"] == 10
    assert sum(one["count"] for one in tally["left_out"].values()) == 10 - tally["used"] > 0


# Nothing disappears

WORDS = st.lists(st.sampled_from([*NOUNS, "Install.", "Über", "東京", "x"]), max_size=40).map(
    " ".join
)
CONTENT = st.one_of(
    st.builds(lambda head, text: f"# {head}\n\n{text}", WORDS, WORDS),
    WORDS,
    st.builds(lambda head, text: f"<h1>{head}</h1><p>{text}", WORDS, WORDS),
    st.text(max_size=60),
)
ENCODED = st.one_of(
    st.builds(
        lambda text, how: text.encode(how, errors="replace"),
        CONTENT,
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1251", "utf-16-le"]),
    ),
    st.binary(max_size=30),
)
NAMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "deep/", "deep/er er/", ".git/"]),
    st.sampled_from(["a", "b c", ".hidden", "é", "100%", "x#1"]),
    st.sampled_from([".md", ".TXT", ".html", ".htm", ".png", ""]),
)


def test_links_to_folders_and_to_nothing_are_counted_and_named(tmp_path):
    folder, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    for n in range(4):
        (folder / f"{n}.md").write_text(f"# Part number {n}\n\n{prose(n)}")
    (elsewhere / "linked.md").write_text(f"# Part number 9\n\n{prose(9)}")
    (folder / "file.md").symlink_to(elsewhere / "linked.md")
    (folder / "more").symlink_to(elsewhere)
    (folder / "round").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    (folder / "broken.md").symlink_to("nowhere")
    _, details = made(folder, pairs="heading")
    files = details["proxy"]["counts"]["files"]
    assert (files["seen"], files["used"]) == (9, 5)
    assert files["left_out"] == {
        "as a link to a folder": {"count": 2, "first": "more"},
        "as a link to nothing": {"count": 2, "first": "broken.md"},
    }


LINKED = [".", "..", "nowhere", "l", "l.md", "a.md", "deep", "/"]
LINKED_BY = {"l", "l.md"}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(NAMES, ENCODED, max_size=8),
    st.sampled_from(["title", "heading", "first-sentence"]),
    st.sets(st.integers(0, 40)),
    st.dictionaries(st.sampled_from(["l", "l.md", "deep/l", ".l"]), st.sampled_from(LINKED)),
)
def test_what_is_seen_is_used_or_counted_under_a_reason(files, kind, lost, links):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "source"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for name, target in links.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).symlink_to(target)
        entries = 0
        for _, folders, names in os.walk(folder):
            folders_out = [one for one in folders if one == ".git" or one.strip(".") in LINKED_BY]
            entries += len(names) + len(folders_out)
            folders[:] = [one for one in folders if one not in folders_out]

        def keep(draft, queries, qrels):
            return {name for n, name in enumerate(queries) if n not in lost}, {}

        options = {"pairs": kind, "passage_words": 10, "test_queries": 0, "dev_queries": 0}
        try:
            draft, details = made(folder, keep, **options)
        except DataError as error:
            if "none is left" in str(error) or "no document" in str(error):
                return
            raise
        counts = details["proxy"]["counts"]
        assert counts["files"]["seen"] == entries
        for tally in counts.values():
            out = sum(one["count"] for one in tally["left_out"].values())
            assert tally["seen"] == tally["used"] + out
        corpus = Corpus.open(draft)
        assert counts["passages"]["used"] == len(corpus)
        assert counts["pairs"]["used"] == len(beir.read_qrels(draft, "train")) > 0
        read = {document_of(name) for name in corpus.ids}
        assert len(read) <= counts["files"]["used"]


def test_a_split_that_leaves_nothing_says_what_was_left_out_and_what_a_document_is(tmp_path):
    found = [{"id": f"issue#{n}", "text": prose(n, 2)} for n in range(9)]
    source = rows(tmp_path, *found, {"id": "bare", "text": " "})
    said = []
    progress = Silent()
    progress.note = said.append
    settings = PairSettings(pairs="first-sentence")
    with pytest.raises(DataError, match=r"9 pairs of 1 document \('issue': a passage's") as caught:
        make_pairs(source, tmp_path / "draft", settings, keep=None, progress=progress)
    assert "is its id without #n), split by document, leave none" in str(caught.value)
    assert "10 rows, 9 of them used; 1 without text, as bare" in said
    assert "9 pairs, 9 of them used" in said
