import math
import re

import pytest

from ragcun_cli.pipeline.data.sources import BEIR
from ragcun_cli.pipeline.encoders.published import (
    ENCODERS,
    name_of_weights,
    published,
    published_weights,
)
from ragcun_cli.pipeline.evaluation.baseline import (
    CHECKED,
    TOLERANCE,
    Comparison,
    require_reproduced,
)
from ragcun_cli.spec.errors import NotReproducedError, RagcunError

MPNET = "sentence-transformers/all-mpnet-base-v2"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
JUDGED_ANEW = "mteb:Touche2020Retrieval.v3"


def compare(encoder, measured):
    return [Comparison.of(*each, published(encoder)[each[0]]) for each in measured.items()]


def test_known_scores_have_their_source():
    scores = published(MPNET)
    assert scores["scifact"].ndcg == 0.6557
    assert scores["arguana"].ndcg == 0.46521
    assert published(MINILM)["nfcorpus"].ndcg == 0.31594
    assert scores["scifact"].mteb_version == "1.12.75"
    assert scores["scifact"].source == (
        "https://github.com/embeddings-benchmark/results/tree/"
        "f4cc6c8b365a3c779dbc708d6affe0b0355b2ddf/results/"
        "sentence-transformers__all-mpnet-base-v2/84f2bcc00d77236f9e89c8a360a00fb1139bf47d/"
        "SciFact.json"
    )


def test_each_encoder_has_all_public_sets_and_a_mean_that_mteb_shows():
    public = {name for name, source in BEIR.items() if not source.gated}
    assert len(ENCODERS) == 3
    for encoder in ENCODERS:
        scores = published(encoder)
        assert scores.keys() == {*public, JUDGED_ANEW}
        assert set(CHECKED) <= public
        for score in scores.values():
            assert 0.1 < score.ndcg < 0.9
            assert re.search(r"/[0-9a-f]{40}/[\w.]+\.json$", score.source)
    # mteb's mean of these 15 tasks.
    scores = published(MPNET)
    mean = sum(score.ndcg for name, score in scores.items() if name != JUDGED_ANEW) / 15
    assert round(100 * mean, 2) == 43.81


def test_weights_are_known_by_their_digest():
    weights = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert name_of_weights(weights) == MINILM
    assert published_weights(MINILM) == weights
    assert name_of_weights("0" * 64) is None


def test_another_encoder_or_length_has_no_published_scores():
    assert published("microsoft/mpnet-base") == {}
    assert published("all-mpnet-base-v2") == {}
    assert published("intfloat/e5-base") == {}, "its scores are with prompts"
    assert published(MPNET, max_seq_length=128) == {}
    assert published(MPNET, max_seq_length=384) == published(MPNET)


def test_a_difference_of_the_tolerance_is_within_it():
    measured = {"scifact": 0.6557 + TOLERANCE, "fiqa": 0.49963 - TOLERANCE - 1e-6}
    scifact, fiqa = compare(MPNET, measured)
    assert (scifact.dataset, scifact.published, scifact.within) == ("scifact", 0.6557, True)
    assert scifact.difference == pytest.approx(0.005)
    assert (fiqa.dataset, fiqa.within) == ("fiqa", False)
    assert not compare(MPNET, {"scifact": math.nan})[0].within


def test_scores_that_are_off_are_named_with_a_hint_and_exit_code_3():
    measured = {"scifact": 0.61, "nfcorpus": 0.333, "arguana": 0.3622}
    with pytest.raises(NotReproducedError) as caught:
        require_reproduced(MPNET, compare(MPNET, measured))
    message = str(caught.value)
    assert "2 of 3 data sets" in message
    assert "scifact 0.6100 instead of 0.6557 (-0.0457)" in message
    assert "arguana 0.3622 instead of 0.4652 (-0.1030)" in message
    assert "nfcorpus" not in message
    assert caught.value.hint == "ragcun data verify scifact arguana"
    assert caught.value.exit_code == 3
    assert isinstance(caught.value, RagcunError)


def test_scores_within_the_tolerance_pass():
    require_reproduced(MINILM, compare(MINILM, {"scifact": 0.6457, "nfcorpus": 0.3154}))
