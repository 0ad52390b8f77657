import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ragcun_cli.pipeline.data.pydocs.docstrings import (
    HOLE,
    PASSAGE_CHARACTERS,
    QUERY_CHARACTERS,
    normalised,
    query_and_passage,
    without_give_aways,
)

SUMMARY = "Return the shortest route between two harbours."
BODY = (
    "The sea is cut into cells of one degree, and a cell with land in it is closed. Ships move to "
    "any of the eight cells around theirs, and pay for the distance and for the current they meet."
)


def tidied(docstring, name="route"):
    pair = query_and_passage(docstring, name)
    assert pair is not None
    return pair


def with_body(text):
    return f"{SUMMARY}\n\n{text}\n\n{BODY}\n"


def test_the_query_is_the_summary_and_the_passage_is_the_rest():
    assert tidied(f"{SUMMARY}\n\n{BODY}") == (SUMMARY, BODY)


def test_a_summary_wrapped_over_two_lines_is_joined():
    wrapped = SUMMARY.replace("route between", "route\nbetween")
    assert tidied(f"{wrapped}\n\n{BODY}")[0] == SUMMARY


def test_only_the_first_sentence_of_the_first_paragraph_is_the_query():
    assert tidied(f"{SUMMARY} {BODY}") == (SUMMARY, BODY)


def test_an_abbreviation_does_not_end_the_summary():
    summary = "Find harbours in a country, e.g. Norway, that are open in winter."
    assert tidied(f"{summary}\n\n{BODY}")[0] == summary


def test_a_short_first_sentence_takes_the_next_one_along():
    assert tidied(f"Sail on. Stop only where the current is weak.\n\n{BODY}") == (
        "Sail on. Stop only where the current is weak.",
        BODY,
    )


def test_a_summary_needs_no_blank_line_before_a_list_of_arguments():
    query, passage = tidied(f"{SUMMARY}\nArgs:\n    start: where to begin. {BODY}")
    assert query == SUMMARY
    assert passage == f"Args: start: where to begin. {BODY}"


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        f"Too short.\n\n{BODY}",
        f"{SUMMARY}\n\nToo short.",
        f"{'Return the shortest route and ' * 7}more.\n\n{BODY}",
        f"labels (`Tensor` of shape `(1,)`): The labels of the harbours.\n\n{BODY}",
        f"See the function route for what this one does.\n\n{BODY}",
    ],
    ids=["empty", "short summary", "short body", "long summary", "argument first", "reference"],
)
def test_a_docstring_without_a_usable_summary_and_body_makes_no_pair(docstring):
    assert query_and_passage(docstring, "route") is None


@pytest.mark.parametrize("signature", ["route(a, b)", "sea.route(a, *, b=None) -> Tensor"])
def test_signature_lines_before_the_summary_are_dropped(signature):
    assert tidied(f"{signature}\n\n{SUMMARY}\n\n{BODY}") == (SUMMARY, BODY)
    assert tidied(f"{signature}\n--\n\n{signature}\n{SUMMARY}\n\n{BODY}") == (SUMMARY, BODY)


def test_a_signature_over_several_lines_is_dropped():
    assert tidied(f"route(\n    a,\n    b=None,\n)\n--\n\n{SUMMARY}\n\n{BODY}") == (SUMMARY, BODY)


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("Calls :func:`~sea.charts.depth` often.", "Calls depth often."),
        ("Calls :meth:`Chart.depth` often.", "Calls Chart.depth often."),
        ("As in :ref:`the guide <guide>` here.", "As in the guide here."),
        ("As in `the guide <https://a.org>`_ here.", "As in the guide here."),
        ("As in [the guide](https://a.org) here.", "As in the guide here."),
        ("Makes a [`Chart`] of ``n`` *cells*.", "Makes a Chart of n cells."),
        ("Takes *args and **kwargs, 2*a*b.", "Takes *args and **kwargs, 2*a*b."),
        ("As proven [1]_ long ago.", "As proven [1] long ago."),
        ("Parameters\n----------\na : int", "Parameters: a : int"),
        ("## Currents\nThey move.", "Currents They move."),
        (":param a: the start", "a: the start"),
        (".. note:: Slow at night.", "Slow at night."),
        (r"The :math:`i`\ th cell.", "The ith cell."),
        ("<Tip>\n\nSlow at night.\n\n</Tip>", "Slow at night."),
        (r"So that :math:`x_i` is \in\_range.", r"So that x_i is \in_range."),
    ],
)
def test_markup_becomes_plain_text(marked, plain):
    assert tidied(with_body(marked))[1] == f"{plain} {BODY}"


@pytest.mark.parametrize(
    "dropped",
    [
        ".. versionadded:: 1.2\n    Or so.",
        ">>> route(1, 2)\n3",
        "```python\nroute(1, 2)\n```",
        "They are found like this:\n\n>>> route(1, 2)\n3",
        "Examples\n--------\n>>> route(1, 2)\n3",
        ".. code-block:: python\n\n    route(1, 2)\n",
        ".. math::\n    \\begin{aligned} a &= b \\\\ c &= d \\end{aligned}",
        "====  ====",
    ],
)
def test_code_and_notes_on_versions_are_dropped(dropped):
    assert tidied(with_body(dropped))[1] == BODY


@pytest.mark.parametrize("heading", ["See Also", "References", "Methods"])
def test_sections_that_hold_other_summaries_are_dropped_up_to_the_next_one(heading):
    section = f"{heading}\n{'-' * len(heading)}\nother : Find a route by hand.\n\nNotes\n-----"
    assert tidied(with_body(section))[1] == BODY


def test_a_placeholder_within_a_sentence_leaves_the_docstring_out():
    for placeholder in ("{klass}", "%(klass)s", HOLE):
        assert query_and_passage(with_body(f"Works on a {placeholder} only."), "route") is None


def test_a_placeholder_on_a_line_of_its_own_is_dropped():
    for placeholder in ("{args}", "    %(args)s", "${ARGS}", f".. note:: {HOLE}"):
        assert tidied(with_body(placeholder))[1] == BODY


def test_braces_of_latex_are_no_placeholder():
    formula = r"The cost is $\frac{ab}{cd} + x_{ij}$ each."
    assert tidied(with_body(formula))[1] == f"{formula} {BODY}"


def test_repeats_of_the_summary_are_taken_out_of_the_body():
    repeat = SUMMARY.upper().replace(" ", "  ")
    query, passage = tidied(f"{SUMMARY}\n\n{BODY} {repeat} {BODY}")
    assert passage == f"{BODY} {BODY}"
    assert normalised(query) not in normalised(passage)


def test_a_name_in_the_query_is_struck_from_the_body_with_its_modules():
    body = "It calls sea.Chart.find_route() once, and find_route again."
    struck = without_give_aways(body, "Undo a find_route of before.", "find_route")
    assert struck == "It calls once, and again."
    assert without_give_aways(body, "Undo the last search.", "find_route") == body


def test_a_name_that_is_a_word_of_the_language_stays():
    body = "A route is a list of cells."
    assert without_give_aways(body, "Return a route home.", "route") == body


def test_a_long_passage_is_cut_between_words():
    passage = tidied(with_body(" ".join(["harbour"] * 400)))[1]
    assert PASSAGE_CHARACTERS[1] - len("harbour") <= len(passage) <= PASSAGE_CHARACTERS[1]
    assert set(passage.split()) == {"harbour"}


WORDS = st.sampled_from(["Return", "the", "route", "of", "a", "ship.", "route_of", "`sea`", "Ärø:"])
PIECES = WORDS | st.sampled_from(
    ["\n", "\n\n", "    ", "-----\n", ">>> ", ".. note:: ", "*", "{a}"]
)
NAMES = st.sampled_from(["route", "route_of", "", "(", "Ship2"])


@given(
    summary=st.lists(WORDS, min_size=3, max_size=12), rest=st.lists(PIECES, max_size=80), name=NAMES
)
def test_no_passage_holds_its_query(summary, rest, name):
    summary = " ".join(summary)
    docstring = f"{summary}\n\n{' '.join(rest)} {summary} {BODY}"
    pair = query_and_passage(docstring, name)
    assume(pair)  # which complains where too few are one
    query, passage = pair
    assert normalised(query) not in normalised(passage)
    assert QUERY_CHARACTERS[0] <= len(query) <= QUERY_CHARACTERS[1]
    assert PASSAGE_CHARACTERS[0] <= len(passage) <= PASSAGE_CHARACTERS[1]
    assert (query, passage) == (" ".join(query.split()), " ".join(passage.split()))


@given(body=st.text(), query=st.text(), name=st.text())
def test_taking_give_aways_out_ends_for_any_text(body, query, name):
    assert len(without_give_aways(body, query, name)) <= len(body)
