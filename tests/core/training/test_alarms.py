from dataclasses import replace

from ragcun_cli.core.training.alarms import Signs, signs_of_collapse, signs_of_divergence

HEALTHY = Signs(
    contrastive=1.2,
    accuracy=0.9,
    queries=800,
    passages=48,
    effective_rank=12.0,
    texts=500,
    statistic=1.3,
    collapsed_statistic=6.43,
    null_statistic=1.05,
)


def seen(**changes):
    return signs_of_collapse(replace(HEALTHY, **changes))


def test_a_healthy_encoder_shows_no_sign():
    assert seen() == []


def test_accuracy_at_chance_is_a_sign():
    (sign,) = seen(accuracy=0.03)
    assert "in-batch accuracy 0.030 is at chance, 0.021 among 48 passages" in sign
    assert seen(accuracy=0.045) == []


def test_too_few_queries_tell_nothing_of_the_accuracy():
    assert seen(accuracy=0.0, queries=4, passages=8) == []
    assert seen(accuracy=0.0, queries=1600, passages=8) != []


def test_embeddings_along_one_direction_are_a_sign():
    (sign,) = seen(effective_rank=1.2)
    assert "effective rank of 500 texts is 1.20" in sign
    assert seen(effective_rank=1.2, texts=3) == [], "three texts span two directions at most"


def test_sigreg_at_the_value_of_a_point_is_a_sign():
    (sign,) = seen(statistic=6.3)
    assert "SIGReg is 6.3, and 6.43 when all embeddings are one point" in sign
    assert seen(statistic=30.0) == [], "a large offset is no collapse"
    assert seen(statistic=None) == []
    assert seen(statistic=6.3, was_clear=False) == [], "a random head starts close to a point"


def test_a_batch_too_small_to_tell_a_point_from_a_gaussian_gives_no_sign():
    assert seen(statistic=1.6, collapsed_statistic=1.61) == []
    assert seen(statistic=0.402, collapsed_statistic=0.402, null_statistic=1.05 / 16) != []


def test_a_contrastive_term_ten_times_that_of_uninformed_logits_is_a_sign_of_divergence():
    assert signs_of_divergence(HEALTHY) == []
    # log 48 = 3.8712
    assert signs_of_divergence(replace(HEALTHY, contrastive=38.7)) == []
    (sign,) = signs_of_divergence(replace(HEALTHY, contrastive=38.72))
    assert sign == (
        "the contrastive term is 38.7, above 38.7, which is 10 times that of uninformed logits "
        "among 48 passages"
    )
