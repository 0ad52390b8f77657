import dataclasses

import numpy as np
import pytest

from ragcun_cli.core.hubness import hubness
from ragcun_cli.pipeline.hubness import first_hits, hubness_of, hubness_of_set
from ragcun_cli.spec.errors import WorkspaceError


def write_run(file, ranked):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        for query, passages in ranked.items():
            for rank, passage in enumerate(passages, 1):
                stream.write(f"{query} Q0 {passage} {rank} {-rank / 3:.9g} tag\n")


def ranking(*, seed=0, queries=30, passages=50, depth=20):
    rng = np.random.default_rng(seed)
    return {f"q{i}": [f"p{n}" for n in rng.permutation(passages)[:depth]] for i in range(queries)}


def test_hits_are_the_first_of_each_query(tmp_path):
    ranked = ranking()
    write_run(tmp_path / "run.trec", ranked)
    found = list(first_hits(tmp_path / "run.trec"))
    assert found == [passages[:10] for passages in ranked.values()]
    expected = dataclasses.asdict(hubness(ranked.values(), passages=50))
    assert hubness_of(tmp_path / "run.trec", 50) == expected
    assert expected["most"] > 0


def test_ids_may_hold_quotes_and_other_spaces_and_look_like_numbers(tmp_path):
    ranked = {"007": ['a"b', "x\u00a0y", "012"], "q\u2003é": ['"', "NA", "nan"]}
    write_run(tmp_path / "run.trec", ranked)
    assert list(first_hits(tmp_path / "run.trec")) == list(ranked.values())


def test_short_lists_count_as_they_are(tmp_path):
    write_run(tmp_path / "run.trec", {"a": ["x"], "b": ["x", "y"]})
    found = hubness_of(tmp_path / "run.trec", 4)
    assert (found["queries"], found["most"], found["anti_hub_share"]) == (2, 2, 0.5)


def test_a_set_of_parts_has_the_means_of_its_parts(tmp_path):
    runs = {"android": ranking(seed=1), "gis": ranking(seed=2, queries=10)}
    for part, ranked in runs.items():
        write_run(tmp_path / part / "run.trec", ranked)
    found = hubness_of_set(tmp_path, {"android": 50, "gis": 60})
    parts = [
        hubness_of(tmp_path / "android/run.trec", 50),
        hubness_of(tmp_path / "gis/run.trec", 60),
    ]
    assert found["skewness"] == pytest.approx(np.mean([part["skewness"] for part in parts]))
    assert found["most"] == np.mean([part["most"] for part in parts])


def test_a_file_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 p first 0.3 tag\n")
    with pytest.raises(WorkspaceError, match="cannot be read as a TREC run"):
        hubness_of(tmp_path / "run.trec", 4)
    with pytest.raises(WorkspaceError, match="cannot be read as a TREC run"):
        hubness_of(tmp_path / "none.trec", 4)
