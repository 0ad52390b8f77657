import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.training.frozen_base import KEYS, VECTORS, BaseOutputs
from ragcun_cli.spec.errors import WorkspaceError

TEXTS = ["a river", "the sea at night", "stars", "", "a river"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    build_tiny_encoder(folder)
    return SentenceTransformer(str(folder), device="cpu")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "outputs"


def fill(outputs, base, texts, *, prompt=""):
    return outputs.encode(
        base, texts, prompt=prompt, batch_size=2, precision="fp32", progress=Silent()
    )


def test_outputs_are_those_of_the_base_and_come_back_in_another_process(base, folder):
    outputs = BaseOutputs(folder, width=32)
    assert outputs.missing(TEXTS, prompt="") == TEXTS[:4]
    assert fill(outputs, base, TEXTS) > 0
    expected = base.encode(TEXTS, convert_to_tensor=True)
    for one in (outputs, BaseOutputs(folder, width=32)):
        assert len(one) == 4
        torch.testing.assert_close(one.look_up(TEXTS, ""), expected)
        assert one.missing(TEXTS, prompt="") == []
    assert np.load(folder / f"000000{VECTORS}").shape == (4, 32)


def test_a_prompt_makes_another_text_of_it(base, folder):
    outputs = BaseOutputs(folder, width=32)
    fill(outputs, base, TEXTS)
    assert outputs.missing(TEXTS[:1], prompt="query: ") == TEXTS[:1]
    with pytest.raises(KeyError):
        outputs.look_up(TEXTS[:1], "query: ")
    fill(outputs, base, TEXTS[:1], prompt="query: ")
    expected = base.encode(TEXTS[:1], prompt="query: ", convert_to_tensor=True)
    torch.testing.assert_close(outputs.look_up(TEXTS[:1], "query: "), expected)


def test_nothing_is_encoded_twice(base, folder, monkeypatch):
    outputs = BaseOutputs(folder, width=32)
    fill(outputs, base, TEXTS[:2])
    encoded = []
    original = base.preprocess
    monkeypatch.setattr(
        base, "preprocess", lambda texts, **more: encoded.extend(texts) or original(texts, **more)
    )
    fill(outputs, base, TEXTS)
    fill(BaseOutputs(folder, width=32), base, TEXTS)
    assert sorted(encoded) == sorted(TEXTS[2:4])


def test_two_who_share_a_folder_add_to_each_other(base, folder):
    first, second = BaseOutputs(folder, width=32), BaseOutputs(folder, width=32)
    fill(first, base, TEXTS[:2])
    fill(second, base, TEXTS)
    expected = base.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(BaseOutputs(folder, width=32).look_up(TEXTS, ""), expected)


def damaged(file, damage):
    raw = file.read_bytes()
    changed = {
        "cut": raw[:-1],
        "emptied": b"",
        "changed": bytes([*raw[:-1], raw[-1] ^ 1]),
        "turned round": raw[::-1],
    }
    file.write_bytes(changed[damage])


@pytest.mark.parametrize("unmarked", [[KEYS], [KEYS, VECTORS]])
@pytest.mark.parametrize("damage", ["cut", "emptied", "changed"])
def test_a_writer_that_was_killed_loses_only_what_it_was_writing(base, folder, unmarked, damage):
    fill(BaseOutputs(folder, width=32), base, TEXTS[:2])
    fill(BaseOutputs(folder, width=32), base, TEXTS)
    for ending in unmarked:
        (folder / f"000001{ending}.sha256").unlink()
        damaged(folder / f"000001{ending}", damage)
    again = BaseOutputs(folder, width=32)
    assert len(again) == 2
    fill(again, base, TEXTS)
    expected = base.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(BaseOutputs(folder, width=32).look_up(TEXTS, ""), expected)


@pytest.mark.parametrize("ending", [KEYS, VECTORS, f"{KEYS}.sha256", f"{VECTORS}.sha256"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "turned round"])
def test_outputs_that_are_not_what_was_written_are_one_error(base, folder, ending, damage):
    fill(BaseOutputs(folder, width=32), base, TEXTS)
    damaged(folder / f"000000{ending}", damage)
    with pytest.raises(WorkspaceError, match="cache is damaged") as refused:
        BaseOutputs(folder, width=32)
    assert refused.value.hint == f"rm -r {folder}"
