from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.losses import ObjectiveSettings
from ragcun_cli.core.model import build_encoder, freeze, without_normalize
from ragcun_cli.core.trainer import TrainerSettings, steps_per_epoch, total_steps, train_encoder
from ragcun_cli.pipeline.tiny_encoder import build_tiny_encoder

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives

HEAD = (2, 4)  # after the transformer and the pooling; 3 is dropout

OBJECTIVE = ObjectiveSettings(
    contrastive="euclidean",
    scale=20.0,
    regulariser="sigreg",
    lambda_isotropy=1.0,
    lambda_reg=0.1,
    slices=16,
    knots=17,
    t_max=3.0,
    scaled_by_batch=True,
)
SETTINGS = TrainerSettings(
    epochs=1,
    max_steps=3,
    batch_size=4,
    gradient_accumulation_steps=1,
    warmup_steps=1,
    max_grad_norm=1.0,
    base_learning_rate=1e-4,
    projection_learning_rate=3e-3,
    precision="fp32",
    gradient_checkpointing=False,
    compile=False,
    save_interval=1,
    logging_steps=1,
    seed=7,
    device="cpu",
)


def rows(count=40):
    words = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove"]
    texts = [f"{words[i % 7]} {words[i // 7]} {i}" for i in range(count)]
    return Dataset.from_dict(
        {
            "query": [f"what is {text}" for text in texts],
            "positive": [f"{text} is a thing of its own" for text in texts],
            "negative_1": [f"nothing is like {text[::-1]}" for text in texts],
        }
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    build_tiny_encoder(folder)
    return folder


@pytest.fixture
def fresh(tiny):
    """Builds the same untrained encoder each time."""

    def build():
        base = without_normalize(SentenceTransformer(str(tiny), device="cpu"))
        torch.manual_seed(0)
        return build_encoder(
            base, output_dim=16, dropout=0.1, similarity="euclidean", linear_start=None
        )

    return build


def train(model, folder, *, objective=OBJECTIVE, on_step=lambda _: None, data=None, **changes):
    return train_encoder(
        model,
        rows() if data is None else data,
        objective=objective,
        settings=replace(SETTINGS, **changes),
        head_modules=HEAD,
        checkpoints=folder,
        on_step=on_step,
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def column(log, name):
    return [entry[name] for entry in log]


def test_head_and_base_each_peak_at_their_own_learning_rate(fresh, tmp_path):
    log = train(fresh(), tmp_path, max_steps=5)
    assert max(column(log, "lr_head")) == pytest.approx(3e-3)
    assert max(column(log, "lr_base")) == pytest.approx(1e-4)
    for entry in log:
        assert entry["lr_head"] == pytest.approx(30 * entry["lr_base"])
    assert column(log, "lr_head") == sorted(column(log, "lr_head"), reverse=True)
    assert log[-1]["lr_head"] == pytest.approx(0)


def test_the_log_has_a_line_for_each_step_with_all_raw_terms(fresh, tmp_path):
    seen = []
    log = train(fresh(), tmp_path, on_step=seen.append)
    assert seen == column(log, "step") == [1, 2, 3]
    for entry in log:
        total = entry["raw_contrastive"] + entry["raw_isotropy"] + 0.1 * entry["raw_variance"]
        assert entry["loss"] == pytest.approx(total, rel=1e-3)
        assert "learning_rate" not in entry


def test_training_moves_head_and_base_and_lowers_the_loss(fresh, tmp_path):
    model = fresh()
    before = weights(model)
    objective = replace(OBJECTIVE, lambda_isotropy=0.0, lambda_reg=0.0)
    rates = {"base_learning_rate": 3e-3, "projection_learning_rate": 3e-2}
    log = train(model, tmp_path, objective=objective, epochs=2, max_steps=None, **rates)
    moved = {
        name[0] for name, value in weights(model).items() if not torch.equal(value, before[name])
    }
    assert moved == {"0", "2", "4"}
    losses = column(log, "loss")
    assert len(losses) == 20
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_killed_and_resumed_training_ends_as_the_uninterrupted_one(fresh, tmp_path):
    class Killed(Exception):
        pass

    def kill(step):
        if step == 13:
            raise Killed

    whole, halves = fresh(), fresh()
    long = {"epochs": 2, "max_steps": None}
    expected = train(whole, tmp_path / "whole", **long)
    with pytest.raises(Killed):
        train(halves, tmp_path / "halves", on_step=kill, **long)
    seen, resumed = [], fresh()
    log = train(resumed, tmp_path / "halves", on_step=seen.append, **long)
    assert seen == list(range(11, 21))
    assert same(weights(resumed), weights(whole))
    assert not same(weights(halves), weights(whole))
    for name in ("step", "loss", "raw_contrastive", "raw_isotropy", "lr_head", "lr_base"):
        assert column(log, name) == column(expected, name)


def test_resuming_a_finished_training_changes_nothing(fresh, tmp_path):
    model, again, seen = fresh(), fresh(), []
    log = train(model, tmp_path, max_steps=None)
    assert train(again, tmp_path, max_steps=None, on_step=seen.append) == log
    assert seen == []
    assert same(weights(again), weights(model))


def test_the_same_seed_trains_to_the_same_bits_and_another_does_not(fresh, tmp_path):
    trained = []
    for number, seed in enumerate((7, 7, 8)):
        model = fresh()
        train(model, tmp_path / str(number), seed=seed)
        trained.append(weights(model))
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_objectives_with_one_seed_see_the_same_batches_and_dropout(fresh, tmp_path):
    # Weights that stand still: what is left to differ are batches, dropout and directions.
    still = {"base_learning_rate": 0.0, "projection_learning_rate": 0.0, "max_steps": 6}
    logs = [
        train(
            fresh(),
            tmp_path / str(weight),
            objective=replace(OBJECTIVE, lambda_isotropy=weight),
            **still,
        )
        for weight in (0.0, 1.0)
    ]
    assert len(set(column(logs[0], "raw_contrastive"))) == 6
    for name in ("raw_contrastive", "raw_isotropy", "raw_variance"):
        assert column(logs[0], name) == column(logs[1], name)
    assert column(logs[0], "loss") != column(logs[1], "loss")


def test_the_first_step_of_two_objectives_costs_the_same_contrastive_loss(fresh, tmp_path):
    first = [
        train(
            fresh(),
            tmp_path / str(weight),
            objective=replace(OBJECTIVE, lambda_isotropy=weight),
            max_steps=2,
        )[0]["raw_contrastive"]
        for weight in (0.0, 1.0)
    ]
    assert first[0] == first[1]


def test_fewer_rows_than_a_batch_are_refused(fresh, tmp_path):
    with pytest.raises(ValueError, match="3 training rows are fewer than a batch of 4"):
        train(fresh(), tmp_path, data=rows(3))


@pytest.mark.parametrize("logging_steps", [1, 2, 10])
def test_a_loss_that_is_not_finite_stops_the_training(fresh, tmp_path, logging_steps):
    model = fresh()
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train(model, tmp_path, logging_steps=logging_steps)


def test_a_frozen_base_stays_as_it_was_while_the_head_learns(fresh, tmp_path):
    model = fresh()
    freeze(list(model)[:2])
    before = weights(model)
    log = train(model, tmp_path)
    after = weights(model)
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (not name.startswith(("2.", "4."))), name
    assert all("lr_base" not in entry for entry in log)
    assert max(column(log, "lr_head")) == pytest.approx(3e-3)


def test_an_incomplete_last_batch_is_dropped(fresh, tmp_path):
    seen = []
    train(fresh(), tmp_path, data=rows(11), max_steps=None, epochs=2, on_step=seen.append)
    assert seen == [1, 2, 3, 4]


def test_accumulated_batches_make_one_step(fresh, tmp_path):
    seen, changes = [], {"max_steps": None, "gradient_accumulation_steps": 4}
    train(fresh(), tmp_path, on_step=seen.append, **changes)
    assert seen == [1, 2, 3]
    assert steps_per_epoch(40, replace(SETTINGS, **changes)) == 3


@pytest.mark.parametrize(
    ("count", "epochs", "max_steps", "expected"),
    [(40, 1, None, 10), (43, 2, None, 20), (40, 3, 12, 12), (40, 1, 99, 10)],
)
def test_steps_are_counted_before_training(count, epochs, max_steps, expected):
    settings = replace(SETTINGS, epochs=epochs, max_steps=max_steps)
    assert total_steps(count, settings) == expected


@pytest.mark.parametrize(("warmup", "peak"), [(0, 1), (0.5, 5), (4, 4)])
def test_warmup_is_a_share_of_the_steps_below_1_and_a_number_of_steps_from_1(
    fresh, tmp_path, warmup, peak
):
    log = train(fresh(), tmp_path, max_steps=None, warmup_steps=warmup)
    rates = column(log, "lr_head")
    assert rates.index(max(rates)) + 1 == peak
