"""The page of hits: nothing of a text is markup, and a browser shows it without a network."""

import re
from html.parser import HTMLParser

import pytest
from chromium import Chromium

from ragcun_cli.pipeline.data.sets.corpus import Corpus
from ragcun_cli.pipeline.evaluation.looked import looked_at
from ragcun_cli.pipeline.report.formats.hits_page import render_hits

EVIL = "</p></details><script>alert(1)</script><img src=x onerror=alert(2)> & \"' {{ 7 * 7 }}"
TEXTS = {
    "<b>id</b>&amp;": EVIL,
    "long": "word " * 400 + "LAST",
    "unbroken": "x" * 900,
    "empty": "",
    "right-to-left": "مرحبا بالعالم",
    "other": "等方性 модель",
}
CORPUS = Corpus.of(TEXTS)


def looked(models, **more):
    names = sorted(TEXTS)
    rankings = {
        model: [(name, 1.0 / (1 + rank)) for rank, name in enumerate(names[turn:] + names[:turn])]
        for turn, model in enumerate(models)
    }
    return looked_at(
        f"what is <i>{EVIL}</i>", CORPUS, rankings, {"long": 2, "lost": 1, "empty": 0}, **more
    )


def pages():
    typed = render_hits([looked(["A <u>", *"bcdef"])], title=f"set: {EVIL}")
    models = ["/a/long/path/of/a/model/" + "m" * 90, "b"]
    scores = dict.fromkeys(models, 0.5)
    some = [looked(models, query=f"q<{n}>", ndcg=scores, shared=6) for n in range(20)]
    bare = render_hits([looked_at("?", CORPUS, {"one": []}, {})], title="nothing")
    return {"typed": typed, "disagreements": render_hits(some, title="set"), "bare": bare}


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.texts = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("name", ["typed", "disagreements", "bare"])
def test_texts_are_text_and_every_element_is_closed(name):
    page = pages()[name]
    found = _Tags()
    found.feed(page)
    assert found.open == []
    tags = {tag for tag, _ in found.seen}
    assert not tags & {"script", "img", "link", "iframe", "i", "u"}
    assert not [key for _, own in found.seen for key in own if key.startswith("on") or key == "src"]
    assert all(own["href"].startswith("#") for tag, own in found.seen if tag == "a")
    targets = {own["id"] for _, own in found.seen if "id" in own}
    assert {own["href"][1:] for tag, own in found.seen if tag == "a"} <= targets
    if name != "bare":
        assert EVIL in found.texts
        assert any(text.endswith("LAST") for text in found.texts)
        assert (
            found.texts.count("The corpus has no such passage.")
            == page.count("<code>lost</code>")
            > 0
        )
        assert "{{ 7 * 7 }}" in page
    else:
        assert "It found nothing." in found.texts


def test_every_model_has_a_letter_and_where_the_others_have_a_passage():
    page = pages()["typed"]
    for letter in "ABCDEF":
        assert f'<span class="letter">{letter}</span>' in page
    first = page[page.index("<ol") : page.index("</ol>")]
    marks = re.findall(r"rank-there[^>]*>(\w) (\d+|–)<", first[: first.index("</li>")])
    assert [letter for letter, _ in marks] == list("BCDEF")
    assert [rank for _, rank in marks] == ["6", "5", "4", "3", "2"]  # each model is turned by one


@pytest.mark.needs("program:chromium")
def test_a_browser_shows_it_at_any_width_and_asks_for_nothing(program, tmp_path):
    with Chromium(program("chromium"), tmp_path / "profile") as browser:
        for name, page in pages().items():
            file = tmp_path / f"{name}.html"
            file.write_text(page, encoding="utf-8")
            for width in (1280, 400):
                browser.open(file, width=width)
                assert browser.measure("document.documentElement.scrollWidth") <= width
                assert browser.requests() == [file.resolve().as_uri()]
                assert browser.complaints() == []
        browser.open(tmp_path / "disagreements.html", width=1280)
        places = "[...list.children].map(one => one.getBoundingClientRect().top)"
        lists = "[...document.querySelectorAll('#query-1 .beside ol')]"
        first, second = browser.measure(f"{lists}.map(list => {places})")
        assert first == second  # equal ranks stand beside each other
        shut = "document.querySelector('#query-1 .beside details').getBoundingClientRect().height"
        before = browser.measure(shut)
        browser.measure("document.querySelector('#query-1 .beside summary').click()")
        assert browser.measure(shut) > 2 * before
