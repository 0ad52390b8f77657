"""Guesses of costs, against sums made by hand."""

import itertools
import random

import pytest

from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Machine, Shape, Workload
from ragcun_cli.spec.errors import RagcunError

SMALL = Shape(layers=2, hidden=32, intermediate=64, heads=2, vocabulary=300)
CARD = Machine("card", fp32=1e12, half=4e12, memory=1e9)


def test_a_transformer_is_counted_by_hand():
    # A layer: 4 * 32 * 32 of attention and 2 * 32 * 64 beside it; 300 word vectors of 32.
    assert SMALL.matrices == 2 * (4_096 + 4_096)
    assert SMALL.parameters == 16_384 + 9_600
    # 10 texts of 5 pieces: two operations a weight, and 4 * 5 * 32 a piece and layer.
    assert SMALL.forward(10, 5) == 50 * (2 * 16_384 + 2 * 640)
    # 5 * 32 * (34 + 5 * 2 * 5 / 32) bytes a layer in 16 bits.
    assert SMALL.activations(5, layers=3, half=True) == pytest.approx(3 * 160 * 35.5625)
    assert SMALL.activations(5, layers=3, half=False) == pytest.approx(6 * 160 * 35.5625)


@pytest.mark.parametrize(
    ("name", "published"),
    [("all-MiniLM-L6-v2", 22_713_216), ("all-mpnet-base-v2", 109_486_464)],
)
def test_known_bases_have_their_published_parameters_within_2_percent(name, published):
    shape = estimate.shape_of(None, f"sentence-transformers/{name}")
    assert shape.parameters == pytest.approx(published, rel=0.02)


def test_a_shape_is_read_from_a_configuration():
    names = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
    config = {**names, "num_attention_heads": 2, "vocab_size": 300}
    assert estimate.shape_of(config, "x/y") == SMALL
    for size in (None, [2], "2", 2.0, 0, -2):
        spoiled = {**names, "num_attention_heads": 2, "vocab_size": size}
        assert estimate.shape_of(spoiled, "x/y") == estimate.BASE_SIZE, size


def test_time_is_work_over_rates():
    work = Workload(flops=6e12, products=3e12, seconds=2, download_bytes=40_000_000)
    assert work.time(CARD) == 6 + 3 + 2 + 2
    assert Workload(flops=6e12, precision="bf16").time(CARD) == 1.5
    both = work + Workload(flops=1e12, seconds=1, disk_bytes=7, shared={"x": Workload()})
    assert (both.flops, both.seconds, both.disk_bytes, list(both.shared)) == (7e12, 3, 7, ["x"])


def test_a_download_of_five_gigabytes_takes_minutes():
    """It was said to take under a minute."""
    seconds = Workload(download_bytes=5_343_728_040).time(CARD)
    assert seconds == pytest.approx(267.2, abs=0.1)
    assert estimate.duration(seconds) == "about 4 min"


def test_mining_ms_marco_takes_what_was_measured(monkeypatch):
    """0.35 hours on two threads and 0.69 on one, search and index; 6 hours were said."""
    size = {"queries": 502_939, "passages": 8_841_823, "name": "msmarco"}
    for cores, hours in ((1, 0.69), (2, 0.35)):
        monkeypatch.setattr(estimate.os, "cpu_count", lambda cores=cores: cores)
        search = estimate.bm25(**size)
        (index,) = search.shared.values()
        assert (search + index).time(CARD) / 3600 == pytest.approx(hours, rel=0.15)


def test_a_training_holds_weights_moments_and_activations():
    options = {"half": True, "checkpointing": False}
    fixed, a_row = estimate.training_memory(SMALL, 30_000, 5, 3, **options)
    assert fixed == 4 * 25_984 + 12 * 30_000
    assert a_row == pytest.approx(3 * 2 * 160 * 35.5625)  # three texts, two layers
    _, frozen = estimate.training_memory(SMALL, 1_000, 5, 3, **options)
    assert frozen == pytest.approx(3 * 160 * 35.5625)  # one layer
    options["checkpointing"] = True
    _, again = estimate.training_memory(SMALL, 30_000, 5, 3, **options)
    assert again == pytest.approx(3 * (160 * 35.5625 + 2 * 160 * 2))  # and inputs of two in 16 bits


def test_the_largest_part_of_a_batch_that_fits_is_named():
    rng = random.Random(0)
    for _ in range(200):
        fixed, a_row, rows = rng.uniform(0, 8e8), rng.uniform(1e6, 2e8), rng.randint(1, 2000)
        work = Workload(held_bytes=fixed + a_row * rows, rows=rows, row_bytes=a_row)
        advice, room = work.advice(CARD), 0.9e9
        if fixed + a_row * rows <= room:
            assert advice == ""
        elif fixed + a_row > room:
            assert advice == "does not fit: not even one row"
        else:
            most = int(advice.removeprefix("does not fit: --set training.mini_batch_size="))
            assert fixed + most * a_row <= room + 1
            assert fixed + (most + 1) * a_row > room - 1
            assert most < rows


def test_a_card_without_bf16_is_said():
    work = Workload(precision="bf16")
    assert "fp16: no bf16 there" in work.advice(estimate.GPUS["t4"])
    assert "fp16: no bf16 there" in work.advice(estimate.GPUS["v100"])
    assert [work.advice(estimate.GPUS[name]) for name in ("a100", "l4", "h100")] == [""] * 3


def test_a_faster_card_is_never_slower_and_more_work_never_cheaper():
    rng = random.Random(1)
    for _ in range(100):
        precision = rng.choice(["fp32", "bf16"])
        work = Workload(rng.uniform(0, 1e15), precision, rng.uniform(0, 1e15), rng.uniform(0, 9))
        for one, other in itertools.permutations(estimate.GPUS.values(), 2):
            if one.fp32 >= other.fp32 and one.half >= other.half:
                assert work.time(one) <= work.time(other)
        more = Workload(*(rng.uniform(0, 9), precision, rng.uniform(0, 9), rng.uniform(0, 9)))
        assert (work + more).time(CARD) >= work.time(CARD)


def test_records_are_matched_with_the_card_that_made_them():
    cards = estimate.GPUS
    assert cards["t4"].is_of("Tesla T4 x 1")
    assert cards["a100"].is_of("NVIDIA A100-SXM4-40GB x 8")
    assert cards["l4"].is_of("NVIDIA L4 x 1")
    assert not cards["l4"].is_of("NVIDIA L40 x 1")
    here = estimate.machine_of(None, "cpu")
    assert here.memory == 0
    assert here.is_of(here.name)
    assert not cards["t4"].is_of(here.name)


def test_an_unknown_card_is_refused_with_those_that_are_known():
    with pytest.raises(RagcunError, match="no figures of a GPU 'k80', only of t4, v100, a100"):
        estimate.machine_of("k80")
