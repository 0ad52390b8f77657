import re

from ragcun_cli.pipeline.data.sources import (
    BEIR,
    DERIVED,
    GATED,
    GROUPS,
    HOST,
    OUTSIDE_AVERAGES,
    reported_split,
)

# Those of BEIR's README and of ir_datasets; beir's md5.csv has scifact's checksum for fever.
CHECKSUMS = {
    "msmarco": "444067daf65d982533ea17ebd59501e4",
    "trec-covid": "ce62140cb23feb9becf6270d0d1fe6d1",
    "nfcorpus": "a89dba18a62ef92f7d323ec890a0d38d",
    "nq": "d4d3d2e48787a744b6f6e691ff534307",
    "hotpotqa": "f412724f78b0d91183a0e86805e16114",
    "fiqa": "17918ed23cd04fb15047f73e6c3bd9d9",
    "arguana": "8ad3e3c2a5867cdced806d6503f29b99",
    "webis-touche2020": "46f650ba5a527fc69e0a6521c5a23563",
    "cqadupstack": "4e41456d7df8ee7760a7f866133bda78",
    "quora": "18fb154900ba42a600f84b839c173167",
    "dbpedia-entity": "c2a39eb420a3164af735795df012ac2c",
    "scidocs": "38121350fc3a4d2f48850f6aff52e4a9",
    "fever": "5a818580227bfb4b35bb6fa46d9b6c03",
    "climate-fever": "8b66f0a9126c521bae2bde127b4dc99d",
    "scifact": "5f7d1de60b170fc8027bb7898e2efca1",
}
QUERIES = {
    "msmarco": 6980,
    "trec-covid": 50,
    "nfcorpus": 323,
    "bioasq": 500,
    "nq": 3452,
    "hotpotqa": 7405,
    "fiqa": 648,
    "signal1m": 97,
    "trec-news": 57,
    "robust04": 249,
    "arguana": 1406,
    "webis-touche2020": 49,
    "cqadupstack": 13145,
    "quora": 10000,
    "dbpedia-entity": 400,
    "scidocs": 1000,
    "fever": 6666,
    "climate-fever": 1535,
    "scifact": 300,
}


def test_the_fifteen_public_sets_have_the_checksums_that_were_verified():
    assert {name: source.zip_md5 for name, source in BEIR.items() if source.zip_md5} == CHECKSUMS
    total = sum(source.zip_bytes or 0 for source in BEIR.values())
    assert round(total / 1e9, 2) == 11.17
    assert "{name}" in HOST


def test_the_nineteen_sets_have_the_published_numbers_of_queries():
    assert {name: source.queries for name, source in BEIR.items()} == QUERIES
    assert all(source.passages > source.queries for source in BEIR.values())


def test_every_public_set_has_its_relevant_pairs_and_every_gated_one_a_way_to_it():
    assert {"bioasq", "signal1m", "trec-news", "robust04"} == GATED
    for name, source in BEIR.items():
        assert (source.relevant_pairs is None) == (name in GATED)
        assert (source.relevant_per_query is None) == (name not in GATED)
        assert (source.obtain is None) == (name not in GATED)
    per_query = BEIR["msmarco"].relevant_pairs / BEIR["msmarco"].queries
    assert round(per_query, 1) == 1.1
    assert round(BEIR["trec-covid"].relevant_pairs / 50, 1) == 493.5


def test_ms_marco_is_reported_on_dev_and_all_others_on_test():
    assert reported_split("msmarco") == "dev"
    assert {reported_split(name) for name in BEIR if name != "msmarco"} == {"test"}
    assert reported_split("mine") == "test"
    assert BEIR["msmarco"].train_queries == 502_939


def test_a_mirror_on_the_hub_has_a_whole_revision():
    for name, source in BEIR.items():
        parts = [] if name in GATED else list(source.forums) or [""]
        assert list(source.hub) == parts
        assert all(re.fullmatch("[0-9a-f]{40}", revision) for _, revision in source.hub.values())


def test_sets_made_of_ms_marco_are_graded_or_for_selection_and_in_no_average():
    counts = {name: (source.queries, source.judgements) for name, source in DERIVED.items()}
    assert counts == {
        "msmarco-select": (2000, None),
        "trec-dl-2019": (43, 9260),
        "trec-dl-2020": (54, 11386),
    }
    assert set(DERIVED) | {"msmarco"} == OUTSIDE_AVERAGES
    assert reported_split("msmarco-select") == "dev"
    assert reported_split("trec-dl-2020") == "test"


def test_words_stand_for_groups_of_sets():
    assert len(GROUPS["beir"]) == 18
    assert len(GROUPS["public"]) == 15
    assert set(GROUPS["public"]) - set(GROUPS["beir"]) == {"msmarco"}
    assert len(BEIR["cqadupstack"].forums) == 12
