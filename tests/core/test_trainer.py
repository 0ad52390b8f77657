import gc
import json
import os
import random
import re
import shutil
import signal
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import objectives
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import TrainerCallback
from transformers import trainer as transformers_trainer

from ragcun_cli.core.errors import SettingsError
from ragcun_cli.core.model import build_encoder, freeze, on_cached_outputs, without_normalize
from ragcun_cli.core.objective.retrieval_loss import RetrievalLoss
from ragcun_cli.core.trainer import TrainingStoppedError
from ragcun_cli.core.training.batches import LikeLengthBatchSampler
from ragcun_cli.core.training.fit import (
    Outcome,
    Selection,
    TrainerSettings,
    steps_per_epoch,
    total_steps,
    train_encoder,
)
from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder

torch.set_num_threads(1)  # small tensors: a second thread costs more than it gives

HEAD = (2, 4)  # after the transformer and the pooling; 3 is dropout

OBJECTIVE = replace(objectives.SETTINGS, slices=16)
SETTINGS = TrainerSettings(
    epochs=1,
    max_steps=3,
    batch_size=4,
    mini_batch_size=None,
    group_by_length=False,
    gradient_accumulation_steps=1,
    warmup_steps=1,
    max_grad_norm=1.0,
    base_learning_rate=1e-4,
    projection_learning_rate=3e-3,
    precision="fp32",
    gradient_checkpointing=False,
    compile=False,
    save_interval=1,
    resume_minutes=60.0,
    logging_steps=1,
    report_to="none",
    run_name="test",
    alarms=True,
    seed=7,
    device="cpu",
)


def rows(count=40):
    words = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove"]
    texts = [f"{words[i % 7]} {words[i // 7 % 7]} {i}" for i in range(count)]
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


def build(tiny):
    """The same untrained encoder each time."""
    base = without_normalize(SentenceTransformer(str(tiny), device="cpu"))
    torch.manual_seed(0)
    return build_encoder(
        base, output_dim=16, dropout=0.1, similarity="euclidean", linear_start=None
    )


@pytest.fixture
def fresh(tiny):
    return partial(build, tiny)


def run(
    model,
    folder,
    *,
    objective=OBJECTIVE,
    on_step=lambda _: None,
    say=lambda _: None,
    data=None,
    selection=None,
    judged=None,
    **changes,
):
    return train_encoder(
        model,
        rows() if data is None else data,
        objective=objective,
        settings=replace(SETTINGS, **changes),
        head_modules=HEAD,
        folder=folder,
        save=lambda folder: model.save(str(folder), create_model_card=False),
        on_step=on_step,
        say=say,
        selection=selection,
        judged=judged,
    )


def train(model, folder, **options):
    return run(model, folder, **options).log


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def column(log, name):
    return [entry[name] for entry in log]


@pytest.fixture
def optimiser_steps(monkeypatch):
    """What AdamW had in its groups at each step: parameter -> learning rate."""
    steps, original = [], torch.optim.AdamW.step

    def step(optimiser, *args, **kwargs):
        steps.append({id(p): g["lr"] for g in optimiser.param_groups for p in g["params"]})
        return original(optimiser, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return steps


@pytest.mark.parametrize("frozen", [False, True])
def test_every_parameter_gets_its_own_learning_rate_at_every_step(
    fresh, tmp_path, optimiser_steps, frozen
):
    model = fresh()
    if frozen:
        freeze(list(model)[:2])
    log = train(model, tmp_path, max_steps=None, warmup_steps=4)
    schedule = [min(step / 4, (10 - step) / 6) for step in range(10)]
    assert max(schedule) == 1
    assert len(optimiser_steps) == 10
    for seen, factor in zip(optimiser_steps, schedule, strict=True):
        expected = {id(p): 3e-3 * factor for i in HEAD for p in model[i].parameters()}
        if not frozen:
            expected |= {id(p): 1e-4 * factor for p in model[0].parameters()}
        assert seen == pytest.approx(expected)
    after = [*schedule[1:], 0.0]  # the log shows the rate of the step to come
    assert column(log, "lr_head") == pytest.approx([3e-3 * factor for factor in after])
    assert [entry.get("lr_base") for entry in log] == (
        [None] * 10 if frozen else pytest.approx([1e-4 * factor for factor in after])
    )


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


KINDS = {
    "sigreg": {},
    "cosine with GOR": {"contrastive": "cosine", "regulariser": "spread_out"},
    "dot with VICReg": {"contrastive": "dot", "regulariser": "vicreg", "symmetric": True},
    "GradCache": {"combination": "convex", "lambda_isotropy": 0.05, "pooled": True},
}


def killed(model, folder, *, at, **options):
    """Train in a process of its own, and kill that one after so many steps."""

    def kill(step):
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        run(model, folder, on_step=kill, **options)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        pytest.param(kind, precision, marks=[pytest.mark.system] * (number > 1))
        for number, (precision, kind) in enumerate(product(("fp32", "bf16"), reversed(KINDS)))
    ],
)
def test_a_killed_and_resumed_training_ends_bit_for_bit_as_the_uninterrupted_one(
    fresh, tmp_path, kind, precision
):
    options = {
        "objective": replace(OBJECTIVE, **KINDS[kind]),
        "precision": precision,
        "mini_batch_size": 3 if kind == "GradCache" else None,
        "epochs": 2,
        "max_steps": 9,
        "batch_size": 8,
        "logging_steps": 2,
        "resume_minutes": 0.0,
        "alarms": False,  # a random head starts close to a point
    }
    whole = fresh()
    expected = train(whole, tmp_path / "whole", **options)
    assert column(expected, "step") == [2, 4, 5, 6, 8, 9]
    for at in (3, 6, 8):
        folder = tmp_path / f"killed-{at}"
        killed(fresh(), folder, at=at, **options)
        seen, resumed = [], fresh()
        log = train(resumed, folder, on_step=seen.append, **options)
        assert seen[0] > 2, "it began anew"
        assert seen[-1] == 9
        assert json.dumps(log) == json.dumps(expected)  # in the same order of keys, too
        assert same(weights(resumed), weights(whole))


def weights_score(model):
    return {"sea/float32": float(model[2].linear.weight.detach().double().sum().sin())}


PLAIN = {
    "data": rows(24),
    "batch_size": 8,
    "max_steps": 3,
    "resume_minutes": 0.0,
    "alarms": False,
}
"""A checkpoint at each step."""
CHOOSING = {
    **PLAIN,
    "data": rows(16),
    "epochs": 3,
    "max_steps": 5,
    "selection": Selection(evaluate=weights_score, every=1, patience=None),
}
"""Besides, encoders of the plan at steps 2 and 4, and the best one."""


class Interrupted(NamedTuple):
    """What a training leaves that is killed at its last step, and what it comes to without."""

    options: dict
    tiny: Path
    killed: Path
    whole: Path
    outcome: Outcome
    weights: dict


@pytest.fixture(scope="module")
def interrupt(tiny, tmp_path_factory):
    def interrupt(options):
        folder = tmp_path_factory.mktemp("interrupted")
        model = build(tiny)
        outcome = run(model, folder / "whole", **options)
        killed(build(tiny), folder / "killed", at=options["max_steps"], **options)
        parts = (folder / "killed", folder / "whole", outcome, weights(model))
        return Interrupted(options, tiny, *parts)

    gc.freeze()  # the Trainer collects all garbage each time
    yield interrupt
    gc.unfreeze()


@pytest.fixture(scope="module")
def plain(interrupt):
    return interrupt(PLAIN)


@pytest.fixture(scope="module")
def choosing(interrupt):
    return interrupt(CHOOSING)


def delete(file):
    file.unlink()


def empty(file):
    os.truncate(file, 0)


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def change(file):
    """One byte, behind the file's time."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def files_of(folder, *parts):
    found = [file for part in parts for file in sorted((folder / part).rglob("*"))]
    return [file.relative_to(folder).as_posix() for file in found if file.is_file()]


def resumed(interrupted, folder, *damages):
    """Damage a copy and go on from it: what was said, the first step, and whether all is alike."""
    shutil.copytree(interrupted.killed, folder)
    for damage, name in damages:
        damage(folder / name)
    said, steps, model = [], [], build(interrupted.tiny)
    outcome = run(model, folder, say=said.append, on_step=steps.append, **interrupted.options)
    alike = outcome == interrupted.outcome and same(weights(model), interrupted.weights)
    files = files_of(folder, "best", "checkpoints")
    alike &= files == files_of(interrupted.whole, "best", "checkpoints")
    for name in files:
        alike &= (folder / name).read_bytes() == (interrupted.whole / name).read_bytes()
    shutil.rmtree(folder)
    return said, steps[0], alike


@pytest.mark.parametrize("damage", [delete, empty, cut, change], ids=lambda one: one.__name__)
def test_a_damaged_checkpoint_is_said_and_the_one_before_comes_to_the_same_bits(
    plain, tmp_path, damage
):
    names = files_of(plain.killed, "resume/checkpoint-2")
    kinds = {Path(name).name for name in names}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} < kinds
    assert {"model.safetensors", "config.json", "modules.json", "digests.json"} < kinds
    for name in names:
        (line,), first, alike = resumed(plain, tmp_path / "damaged", (damage, name))
        assert line.startswith("checkpoint-2 is dropped, for the one before: ")
        assert Path(name).name in line
        assert (first, alike) == (2, True), name


def test_a_checkpoint_rests_on_what_was_exported_before_it(choosing, tmp_path):
    """On the plan's encoders and the best one of its time: a result is made of them, too."""
    scores = {e["step"]: e["eval_ndcg@10"] for e in choosing.outcome.log if "eval_ndcg@10" in e}
    assert sorted(scores) == [1, 2, 3, 4, 5]
    rests = {
        newest: {"checkpoints/step-2", f"best/step-{max(range(1, newest + 1), key=scores.get)}"}
        for newest in (3, 4)
    }
    rests[4].add("checkpoints/step-4")
    assert resumed(choosing, tmp_path / "whole") == ([], 5, True)
    files = files_of(choosing.killed, "best", "checkpoints")
    folders = {"/".join(Path(name).parts[:2]) for name in files}
    assert folders == rests[3] | rests[4]
    for folder in folders:
        name = f"{folder}/model.safetensors"
        said, first, alike = resumed(choosing, tmp_path / "damaged", (change, name))
        lost = [newest for newest in (4, 3) if folder in rests[newest] & rests[4]]
        expected = [
            f"checkpoint-{newest} is dropped, for the one before: {name} is not what digests.json "
            "lists"
            for newest in lost
        ]
        assert said[: len(lost)] == expected
        assert (first, alike) == ({0: 5, 1: 4, 2: 1}[len(lost)], True)


def test_a_training_without_a_whole_checkpoint_says_that_it_begins_anew(plain, tmp_path):
    lost = "resume/checkpoint-2/1_Pooling/config.json"
    damages = ((cut, "resume/checkpoint-1/optimizer.pt"), (delete, lost))
    said, first, alike = resumed(plain, tmp_path / "damaged", *damages)
    assert said == [
        f"checkpoint-2 is dropped, for the one before: {lost}, which digests.json lists, "
        f"cannot be read: [Errno 2] No such file or directory: '{tmp_path}/damaged/{lost}'",
        "checkpoint-1 is dropped, for the one before: resume/checkpoint-1/optimizer.pt is not "
        "what digests.json lists",
        "no checkpoint is left to resume from: the training begins anew",
    ]
    assert (first, alike) == (1, True)


def test_checkpoints_to_resume_from_are_two_and_the_plans_are_all_kept(fresh, tmp_path):
    model = fresh()
    train(model, tmp_path, max_steps=None, epochs=3, resume_minutes=0.0, batch_size=8)
    resume = sorted(path.name for path in tmp_path.glob("resume/checkpoint-*"))
    assert resume == ["checkpoint-14", "checkpoint-15"]
    assert sorted(path.name for path in tmp_path.glob("checkpoints/*")) == ["step-10", "step-5"]
    kept = SentenceTransformer(str(tmp_path / "checkpoints/step-10"), device="cpu")
    assert weights(kept).keys() == weights(model).keys()
    assert not same(weights(kept), weights(model))


def test_without_a_due_checkpoint_only_the_last_step_is_saved(fresh, tmp_path):
    train(fresh(), tmp_path, max_steps=4)
    assert [path.name for path in tmp_path.glob("resume/*")] == ["checkpoint-4"]


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": None},
        {"max_steps": 3},
        {"max_steps": 3, "gradient_accumulation_steps": 2},
        {
            "max_steps": 10,
            "resume_minutes": 0.0,
            "selection": Selection(
                evaluate=lambda model: {"sea/float32": 0.5}, every=2, patience=2
            ),
        },
    ],
    ids=["at the end of an epoch", "amid an epoch", "amid an epoch of parts", "stopped early"],
)
def test_resuming_a_finished_training_changes_nothing(fresh, tmp_path, options):
    """It may have been stopped before its results were recorded."""
    model, again, seen = fresh(), fresh(), []
    outcome = run(model, tmp_path, **options)
    assert (outcome.steps == 6) == ("selection" in options)
    assert run(again, tmp_path, on_step=seen.append, **options) == outcome
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


def watched(model):
    """Digests of all token ids and of all dropout masks that a model sees, in order."""
    seen = []

    def tokens(module, inputs):
        seen.append(("tokens", inputs[0]["input_ids"].numpy().tobytes()))

    def mask(module, inputs, output):
        seen.append(("mask", ((output == 0) & (inputs[0] != 0)).numpy().tobytes()))

    model[0].register_forward_pre_hook(tokens)
    dropouts = [m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0]
    for dropout in dropouts:
        dropout.register_forward_hook(mask)
    assert len(dropouts) > 3
    return seen


def test_arms_with_one_seed_see_the_same_batches_and_dropout_masks_for_50_steps(fresh, tmp_path):
    arms = {
        "none": {"lambda_isotropy": 0.0, "lambda_reg": 0.0},
        "sigreg": {},
        "spread_out": {"regulariser": "spread_out"},
        "vicreg": {"regulariser": "vicreg"},
    }
    data = rows(208)
    everything, starts, ends = [], [], []
    for name, changes in arms.items():
        model = fresh()
        starts.append(weights(model))
        seen = watched(model)
        options = {"max_steps": 50, "epochs": 2, "logging_steps": 50, "data": data}
        train(model, tmp_path / name, objective=replace(OBJECTIVE, **changes), **options)
        everything.append(seen)
        ends.append(weights(model))
    tokens = [value for kind, value in everything[0] if kind == "tokens"]
    assert len(tokens) == 100  # the queries of a step, and all its passages
    assert len(set(tokens)) == 100, "the batches are all alike"
    for seen, start, end in zip(everything[1:], starts[1:], ends[1:], strict=True):
        assert seen == everything[0]
        assert same(start, starts[0])
        assert not same(end, ends[0]), "the arms did not differ"


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
    with pytest.raises(SettingsError, match="3 training rows are fewer than a batch of 4"):
        train(fresh(), tmp_path, data=rows(3))


@pytest.mark.parametrize("logging_steps", [1, 2, 10])
def test_a_loss_that_is_not_finite_stops_the_training(fresh, tmp_path, logging_steps):
    model = fresh()
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(TrainingStoppedError, match="the loss is nan"):
        train(model, tmp_path, logging_steps=logging_steps)


def test_a_gradient_that_is_not_finite_stops_the_training_and_keeps_the_good_checkpoint(
    fresh, tmp_path
):
    model = fresh()
    calm = {"base_learning_rate": 0.0, "projection_learning_rate": 0.0}

    def spoil(step):
        if step == 3:
            with torch.no_grad():  # the loss stays finite, its gradient's norm overflows
                model[4].linear.weight.mul_(3e18)

    options = {"resume_minutes": 0.0, "alarms": False, **calm}
    objective = replace(OBJECTIVE, lambda_isotropy=0.0, lambda_reg=0.0)
    with pytest.raises(TrainingStoppedError, match="norm of the gradient is not finite at step 4"):
        train(model, tmp_path, max_steps=None, objective=objective, on_step=spoil, **options)
    found = sorted(path.name for path in tmp_path.glob("resume/*"))
    assert found == ["checkpoint-2", "checkpoint-3"]


@pytest.mark.parametrize(
    ("logging_steps", "max_steps", "stopped_at"), [(1, 10, 3), (2, 10, 6), (10, 4, 4), (10, 10, 10)]
)
def test_a_contrastive_term_far_above_that_of_uninformed_logits_stops_the_training(
    fresh, tmp_path, logging_steps, max_steps, stopped_at
):
    model = fresh()
    with torch.no_grad():
        model[4].linear.weight.mul_(3e4)
    still = {"base_learning_rate": 0.0, "projection_learning_rate": 0.0}
    # 4 queries among 8 passages: uninformed logits cost log 8
    options = {"logging_steps": logging_steps, "max_steps": max_steps, "resume_minutes": 0.0}
    message = rf"diverged by step {stopped_at}: the contrastive term is .*, above 20.8"
    with pytest.raises(TrainingStoppedError, match=message):
        train(model, tmp_path / "a", **options, **still)
    assert not list(tmp_path.glob("a/resume/*"))
    log = train(model, tmp_path / "b", alarms=False, **options, **still)
    assert min(column(log, "raw_contrastive")) > 10 * np.log(8)


def test_an_optimiser_that_is_not_finite_is_never_saved(fresh, tmp_path, monkeypatch):
    original = torch.optim.AdamW.step

    def step(optimiser, *args, **kwargs):
        result = original(optimiser, *args, **kwargs)
        state = list(optimiser.state.values())[-1]
        if state["step"] == 3:
            state["exp_avg_sq"].fill_(torch.inf)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainingStoppedError, match="the optimiser's exp_avg_sq is not finite"):
        train(fresh(), tmp_path, max_steps=None, resume_minutes=0.0)
    found = sorted(path.name for path in tmp_path.glob("resume/*"))
    assert found == ["checkpoint-1", "checkpoint-2"]


def test_what_is_not_finite_is_null_in_the_log_and_in_the_checkpoints(fresh, tmp_path):
    objective = replace(OBJECTIVE, regulariser="vicreg", lambda_isotropy=0.0, lambda_reg=0.0)
    model = fresh()
    freeze(list(model)[:4])
    with torch.no_grad():
        model[4].linear.weight.mul_(1e15)  # squares of distances fit into fp32, of covariances not
    options = {"alarms": False, "projection_learning_rate": 0.0}
    log = train(model, tmp_path, objective=objective, **options)
    assert column(log, "raw_isotropy") == [None] * 3
    text = (tmp_path / "resume/checkpoint-3/trainer_state.json").read_text()
    assert not {"NaN", "Infinity"} & set(re.findall(r"\w+", text))


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


def gradients(model, data, *, mini_batch_size, **changes):
    """Value and gradient of the composed loss on the first 12 rows."""
    objective = replace(OBJECTIVE, **changes)
    loss = RetrievalLoss(model, objective, seed=7, mini_batch_size=mini_batch_size)
    model.train()
    some = data[:12]
    features = [model.preprocess(some[name]) for name in ("query", "positive", "negative_1")]
    parts = loss(features)
    sum(parts.values()).backward()
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return {name: value.item() for name, value in parts.items()}, flat


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 5, 12])
def test_gradient_caching_gives_the_plain_loss_and_gradient(fresh, kind, size):
    model = without_dropout(fresh())
    data = rows(12).map(
        lambda row, i: {"positive": row["positive"] * (1 + i % 3)}, with_indices=True
    )
    plain, expected = gradients(model, data, mini_batch_size=None, **KINDS[kind])
    cached, gradient = gradients(model, data, mini_batch_size=size, **KINDS[kind])
    assert cached == pytest.approx(plain, rel=1e-5)
    assert (gradient - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("size", [None, 5])
def test_shares_on_the_head_are_those_of_a_backward_pass_of_each_term(fresh, size):
    model = without_dropout(fresh()).train()
    some = rows(12).map(
        lambda row, i: {"positive": row["positive"] * (1 + i % 3)}, with_indices=True
    )

    def loss_of(**more):
        loss = RetrievalLoss(model, OBJECTIVE, seed=7, **more)
        loss.measures_gradients = True
        columns = ("query", "positive", "negative_1")
        return loss, loss([model.preprocess(some[name]) for name in columns])

    head = [model[position] for position in HEAD]
    measured = loss_of(mini_batch_size=size, head=head)[0].gradients
    for name in OBJECTIVE.weights:
        model.zero_grad()
        loss_of()[1][name].backward()
        flat = torch.cat([p.grad.flatten() for module in head for p in module.parameters()])
        norm = measured["head_gradient_share"][name].item()
        assert norm == pytest.approx(flat.norm().item(), rel=1e-4)


def test_gradient_caching_replays_the_dropout_masks(fresh, tmp_path):
    model = fresh()
    seen = watched(model)
    train(model, tmp_path, max_steps=1, batch_size=8, mini_batch_size=4)
    masks = [value for kind, value in seen if kind == "mask"]
    half = len(masks) // 2
    assert masks[:half] == masks[half:]
    assert len(set(masks)) > half / 2


def test_memory_that_gives_out_is_answered_by_smaller_micro_batches(fresh, tmp_path):
    small, large = without_dropout(fresh()), without_dropout(fresh())
    calls = []

    def give_out(module, inputs):
        calls.append(len(inputs[0]["input_ids"]))
        if calls[-1] > 2 and len(calls) > 7:  # the first step goes well
            raise torch.OutOfMemoryError("out of memory, for the test")

    expected = run(small, tmp_path / "small", max_steps=4, batch_size=8, mini_batch_size=2)
    large[0].register_forward_pre_hook(give_out)
    outcome = run(large, tmp_path / "large", max_steps=4, batch_size=8, mini_batch_size=8)
    assert expected.memory_retries == ()
    assert outcome.memory_retries == (
        {"step": 2, "mini_batch_size": 4},
        {"step": 2, "mini_batch_size": 2},
    )
    for name, value in weights(large).items():
        torch.testing.assert_close(value, weights(small)[name], rtol=1e-3, atol=1e-5)
    for name in ("raw_contrastive", "raw_isotropy", "accuracy", "isotropy_texts"):
        assert column(outcome.log, name) == pytest.approx(column(expected.log, name), rel=1e-3)


def test_memory_that_gave_out_is_remembered_after_a_kill(fresh, tmp_path):
    options = {"max_steps": 5, "batch_size": 8, "mini_batch_size": 8, "resume_minutes": 0.0}
    model, sizes = fresh(), []

    def give_out(module, inputs):
        if len(inputs[0]["input_ids"]) > 4:
            raise torch.OutOfMemoryError("out of memory, for the test")

    handle = model[0].register_forward_pre_hook(give_out)
    killed(model, tmp_path, at=3, **options)
    handle.remove()
    model[0].register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0]["input_ids"]))
    )
    outcome = run(model, tmp_path, **options)
    assert outcome.memory_retries == ({"step": 1, "mini_batch_size": 4},)
    assert set(sizes) == {4}


def test_texts_that_repeat_cost_no_step(fresh, tmp_path):
    data = rows(40).map(lambda row: {"positive": "one thing for all"})
    labels = [[1024 * (number + 1), 0, number + 1] for number in range(40)]
    seen = []
    log = run(
        fresh(),
        tmp_path,
        data=data.add_column("label", labels),
        batch_size=20,
        max_steps=None,
        epochs=2,
        on_step=seen.append,
        judged=1024 * torch.arange(1, 41),
    ).log
    assert seen == [1, 2, 3, 4]
    assert column(log, "masked_per_query") == [19.0] * 4


def test_a_first_score_after_the_last_step_is_refused(fresh, tmp_path):
    with pytest.raises(SettingsError, match="the first score would come after 2 steps of 1"):
        run(fresh(), tmp_path, max_steps=1, selection=scores_of(0.5))


def test_memory_that_gives_out_without_gradient_caching_is_an_error(fresh, tmp_path):
    def give_out(module, inputs):
        raise torch.OutOfMemoryError("out of memory, for the test")

    model = fresh()
    model[0].register_forward_pre_hook(give_out)
    with pytest.raises(torch.OutOfMemoryError):
        train(model, tmp_path)


@pytest.fixture
def static():
    words = " ".join([*rows()["query"], *rows()["positive"]]).split()
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["[UNK]", *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    base = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    start = base.encode(list(rows()["positive"]), convert_to_tensor=True)
    return build_encoder(
        base, output_dim=12, dropout=0.1, similarity="euclidean", linear_start=start
    )


def test_a_static_encoder_trains_and_cannot_be_cut_into_micro_batches(static, tmp_path):
    before = weights(static)
    outcome = train_encoder(
        static,
        rows(),
        objective=OBJECTIVE,
        settings=SETTINGS,
        head_modules=(1, 3),
        folder=tmp_path,
        save=lambda folder: None,
    )
    assert outcome.steps == 3
    moved = {
        name[0] for name, value in weights(static).items() if not torch.equal(value, before[name])
    }
    assert moved == {"0", "1", "3"}
    with pytest.raises(SettingsError, match="static-embedding"):
        RetrievalLoss(static, OBJECTIVE, seed=0, mini_batch_size=2)


def test_a_frozen_base_that_is_looked_up_trains_the_head_as_one_that_is_run(fresh, tmp_path):
    def frozen():
        model = without_dropout(fresh())
        freeze(list(model)[:2])
        return model

    data = rows(200)
    slow, fast = frozen(), frozen()
    base = SentenceTransformer(modules=list(fast)[:2], device="cpu")
    texts = sorted({text for name in data.column_names for text in data[name]})
    outputs = dict(zip(texts, base.encode(texts, convert_to_tensor=True).cpu(), strict=True))

    def look_up(texts, prompt):
        assert prompt == ""
        return torch.stack([outputs[text] for text in texts])

    cached = on_cached_outputs(list(fast)[2:], look_up, device="cpu")
    options = {"epochs": 5, "max_steps": 200, "data": data}
    expected = column(train(slow, tmp_path / "slow", **options), "loss")
    logs = train_encoder(
        cached,
        data,
        objective=OBJECTIVE,
        settings=replace(SETTINGS, epochs=5, max_steps=200),
        head_modules=(1, 3),
        folder=tmp_path / "fast",
        save=lambda folder: fast.save(str(folder), create_model_card=False),
    ).log
    losses = column(logs, "loss")
    assert len(losses) == 200
    assert losses[:20] == pytest.approx(expected[:20], rel=1e-5)
    assert losses == pytest.approx(expected, rel=1e-3)
    for name, value in weights(fast).items():
        torch.testing.assert_close(value, weights(slow)[name], rtol=1e-2, atol=1e-4)
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def scores_of(*values):
    given = iter(values)
    return Selection(evaluate=lambda model: {"sea/float32": next(given)}, every=2, patience=None)


def test_the_best_encoder_on_the_selection_set_is_kept(fresh, tmp_path):
    model = fresh()
    outcome = run(model, tmp_path, max_steps=8, selection=scores_of(0.3, 0.5, 0.5, 0.4))
    assert outcome.best_step == 4
    assert column([e for e in outcome.log if "eval_ndcg@10" in e], "step") == [2, 4, 6, 8]
    shorter = fresh()
    run(shorter, tmp_path / "other", selection=scores_of(0.3, 0.5, 0.5, 0.4), max_steps=8)
    best = SentenceTransformer(str(tmp_path / "best/step-4"), device="cpu")
    assert not same(weights(best), weights(model))
    again = SentenceTransformer(str(tmp_path / "other/best/step-4"), device="cpu")
    assert same(weights(best), weights(again))


def test_training_ends_early_when_the_score_stops_rising(fresh, tmp_path):
    selection = replace(scores_of(0.3, 0.5, 0.4, 0.5, 0.9), patience=2)
    outcome = run(fresh(), tmp_path, max_steps=10, selection=selection)
    assert (outcome.steps, outcome.best_step) == (8, 4)


def draw():
    """Numbers of all generators, as others' code may draw them."""
    return random.random(), np.random.random(), torch.rand(3).tolist()  # noqa: NPY002


class Tracker(TrainerCallback):
    """One of those that `report_to` brings, which draw names for their runs."""

    def on_train_begin(self, *args, **kwargs):
        draw()

    def on_log(self, *args, **kwargs):
        draw()


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_not_the_training_moves_no_dropout_mask(fresh, tmp_path, monkeypatch, resumed):
    options = {"max_steps": 8, "resume_minutes": 0.0, "epochs": 2, "batch_size": 8}
    bare = fresh()
    losses = column(train(bare, tmp_path / "bare", **options), "loss")
    drawn = []

    def score(model):
        drawn.append(draw())
        return {"sea/float32": 0.5}

    def save(folder):
        draw()
        model.save(str(folder), create_model_card=False)

    own = transformers_trainer.DEFAULT_CALLBACKS
    monkeypatch.setattr(transformers_trainer, "DEFAULT_CALLBACKS", [*own, Tracker])
    selection = Selection(evaluate=score, every=2, patience=None)
    if resumed:
        killed(fresh(), tmp_path / "busy", at=5, selection=selection, **options)
    model = fresh()
    outcome = train_encoder(
        model,
        rows(),
        objective=OBJECTIVE,
        settings=replace(SETTINGS, **options),
        head_modules=HEAD,
        folder=tmp_path / "busy",
        save=save,
        selection=selection,
    )
    assert column([entry for entry in outcome.log if "loss" in entry], "loss") == losses
    assert same(weights(model), weights(bare))
    assert len(drawn) == (2 if resumed else 4)
    assert drawn == drawn[:1] * len(drawn), "a score has a state of its own"


def test_an_early_end_and_the_best_encoder_survive_a_kill(fresh, tmp_path):
    options = {
        "selection": Selection(evaluate=weights_score, every=2, patience=3),
        "max_steps": None,
        "resume_minutes": 0.0,
    }
    expected = run(fresh(), tmp_path / "whole", **options)
    killed(fresh(), tmp_path / "killed", at=5, **options)
    outcome = run(fresh(), tmp_path / "killed", **options)
    assert outcome.log == expected.log
    assert (outcome.steps, outcome.best_step) == (expected.steps, expected.best_step)
    best = f"best/step-{expected.best_step}"
    kept = [
        weights(SentenceTransformer(str(tmp_path / name / best), device="cpu"))
        for name in ("whole", "killed")
    ]
    assert same(*kept)


def test_a_collapsed_encoder_stops_the_training_and_leaves_the_good_checkpoint(fresh, tmp_path):
    model, calls = fresh(), []

    def collapse(module, inputs):
        calls.append(module)
        if len(calls) > 4 * 4:  # queries and passages of a step, and for its gradient on the head
            module.weight.data.zero_()

    model[4].linear.register_forward_pre_hook(collapse)
    options = {"epochs": 2, "max_steps": None, "batch_size": 8, "resume_minutes": 0.0}
    with pytest.raises(TrainingStoppedError, match=r"collapsed by step 7: .*effective rank"):
        train(model, tmp_path, **options)
    found = sorted(path.name for path in tmp_path.glob("resume/*"))
    assert found == ["checkpoint-3", "checkpoint-4"]
    assert not (tmp_path / "checkpoints").exists(), "the plan's checkpoint of step 5 is a bad one"


def test_without_alarms_a_collapsed_encoder_trains_on(fresh, tmp_path):
    model = fresh()
    with torch.no_grad():
        model[4].linear.weight.zero_()
    still = {"base_learning_rate": 0.0, "projection_learning_rate": 0.0}
    assert len(train(model, tmp_path, max_steps=None, alarms=False, **still)) == 10


def test_weights_that_are_not_finite_are_never_saved(fresh, tmp_path):
    model = fresh()

    def spoil(step):
        if step == 4:
            with torch.no_grad():
                model[0].auto_model.embeddings.position_embeddings.weight[60:] = torch.nan

    with pytest.raises(TrainingStoppedError, match=r"position_embeddings.weight is not finite"):
        train(model, tmp_path, max_steps=None, resume_minutes=0.0, on_step=spoil)
    found = sorted(path.name for path in tmp_path.glob("resume/*"))
    assert found == ["checkpoint-2", "checkpoint-3"]


def test_shares_of_the_loss_and_of_its_gradient_stand_in_the_log(fresh, tmp_path):
    log = train(fresh(), tmp_path, max_steps=5, logging_steps=2)
    assert column(log, "step") == [2, 4, 5]
    for entry in log:
        for kind in ("loss_share", "gradient_share", "head_gradient_share"):
            shares = [entry[f"{kind}_{name}"] for name in ("contrastive", "isotropy", "variance")]
            assert sum(shares) == pytest.approx(1)
            assert min(shares) > 0
        assert 0 <= entry["accuracy"] <= 1
        assert 1 <= entry["effective_rank"] <= 8
    bare = replace(OBJECTIVE, lambda_isotropy=0.0, lambda_reg=0.0)
    for entry in train(fresh(), tmp_path / "bare", objective=bare):
        assert entry["loss_share_contrastive"] == entry["gradient_share_contrastive"] == 1
        assert "loss_share_isotropy" not in entry
        assert entry["raw_isotropy"] > 0


def test_batches_of_like_length_hold_every_row_once(fresh, tmp_path):
    data = rows(203)
    sampler = LikeLengthBatchSampler(
        data, batch_size=4, drop_last=True, generator=torch.Generator(), seed=3
    )
    batches = list(sampler)
    assert len(batches) == len(sampler) == 50
    assert len({row for batch in batches for row in batch}) == 200
    lengths = np.array([sum(map(len, row.values())) for row in data])
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.2 * np.ptp(lengths)
    assert [b.tolist() if hasattr(b, "tolist") else b for b in sampler] == batches
    assert len(train(fresh(), tmp_path, data=data, group_by_length=True)) == 3


@pytest.mark.system
def test_a_compiled_model_trains_as_the_plain_one(fresh, tmp_path):
    plain, compiled = (without_dropout(fresh()) for _ in range(2))  # masks are drawn otherwise
    expected = train(plain, tmp_path / "plain")
    log = train(compiled, tmp_path / "compiled", compile=True)
    assert column(log, "loss") == pytest.approx(column(expected, "loss"), rel=1e-4)
    saved = SentenceTransformer(str(tmp_path / "compiled/resume/checkpoint-3"), device="cpu")
    assert weights(saved).keys() == weights(plain).keys()
