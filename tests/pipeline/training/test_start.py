"""The encoder that all arms and seeds of a plan start from."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ragcun_cli.core.model import random_rotation
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.encoders.find import find_encoder
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.stages.runs import Run, description_task, runs_of, runs_on_disk
from ragcun_cli.pipeline.training.start_encoder import start_encoder
from ragcun_cli.pipeline.training.train import set_up_start
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.plan import PaperPlan
from ragcun_cli.spec.profile import RunProfile

TEXTS = [f"tide {n % 7} moon {n % 11} reef {n}" for n in range(60)]


@pytest.fixture
def dataset(tmp_path):
    corpus = {f"p{n}": text for n, text in enumerate(TEXTS)}
    beir.write_set(
        tmp_path / "sea",
        corpus=corpus,
        queries={"q": "which reef?"},
        qrels={"train": {"q": {"p3": 1}}},
    )
    return tmp_path / "sea"


def profile(name="arm", *, output_dim=48, training=None, **head):
    return RunProfile.model_validate(
        {
            "name": name,
            "encoder": {"base": "tiny", "output_dim": output_dim, "head": head},
            "training": training or {},
        }
    )


@pytest.fixture
def start(dataset, tiny):
    """The start of a profile, and what it makes of some texts."""

    def made(settings):
        config = settings.encoder.model_copy(update={"base": str(tiny)})
        settings = settings.model_copy(update={"encoder": config})
        encoder = find_encoder(config, SPACE)
        model = start_encoder(settings, encoder, dataset, device="cpu", progress=Silent())
        return model.encode(TEXTS, convert_to_tensor=True).double()

    return made


SPACE = Workspace(root=Path("w"), data=Path("w/data"))


def test_all_arms_and_seeds_start_from_one_rotation(start):
    torch.manual_seed(1)
    first = start(profile())
    torch.manual_seed(2)
    assert torch.equal(start(profile("other", training={"lambda_isotropy": 1.0})), first)
    plain = start(profile(rotation="none"))
    turned = plain @ random_rotation(48, seed=0).T
    torch.testing.assert_close(first, turned, rtol=0, atol=1e-4)
    assert (start(profile(rotation_seed=1)) - first).abs().max() > 0.1
    # The tiny base has 32 dimensions: without a rotation 16 of the 48 outputs say nothing.
    assert (plain[:, 32:] == 0).all()
    assert first.std(0).min() > 0.05


def test_the_reference_is_the_start_of_every_arm(dataset, tiny, start, tmp_path):
    settings = profile()
    config = settings.encoder.model_copy(update={"base": str(tiny)})
    settings = settings.model_copy(update={"encoder": config})
    run = Run(settings, None, "untouched_start", SPACE)
    encoder = find_encoder(config, SPACE)
    more = {"dataset": dataset, "device": "cpu", "outputs": None, "progress": Silent()}
    set_up_start(run, tmp_path, encoder=encoder, **more)
    (head,) = sorted(tmp_path.glob("model/*_Dense"))[-1:]
    kept = load_file(head / "model.safetensors")["linear.weight"]
    model = start_encoder(settings, encoder, dataset, device="cpu", progress=Silent())
    assert torch.equal(kept, model[-1].linear.weight)


def plan(*experiments):
    return PaperPlan("p", "", experiments, ("untouched_start",), (1, 2))


def test_arms_of_one_start_share_the_reference_and_a_random_head_has_none():
    arms = (profile("a"), profile("b", training={"lambda_reg": 0.1}))
    assert [run.name for run in runs_of(plan(*arms), SPACE)][:2] == ["untouched_start", "a"]
    still = profile("e", dropout=0.0)
    assert [run.name for run in runs_of(plan(*arms, still), SPACE)][:2] == ["untouched_start", "a"]
    turned = profile("c", rotation_seed=1)
    found = [run.name for run in runs_of(plan(*arms, turned), SPACE)]
    assert found[:3] == ["untouched_start", "untouched_start", "a"]
    drawn = profile("d", init="random")
    assert [run.name for run in runs_of(plan(drawn), SPACE)] == ["d", "d"]


def test_a_run_file_with_the_old_name_of_the_reference_is_read(tmp_path):
    space = Workspace(root=tmp_path, data=tmp_path / "data")
    run = Run(profile(), None, "untouched_start", space)
    old = run.description().replace("untouched_start", "untouched_pca")
    assert "untouched_pca" in old
    run.folder.mkdir(parents=True)
    Runner(Silent()).run(replace(description_task(run), action=writing(old)))
    assert (run.folder / "run.json").read_text() == old
    assert runs_on_disk(space) == ([run], {})


def writing(text):
    def action(draft, progress):
        (draft / "run.json").write_text(text)
        return {}

    return action
