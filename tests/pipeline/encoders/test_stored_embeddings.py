import shutil

import numpy as np
import pytest
import torch

from ragcun_cli.pipeline.encoders import stored
from ragcun_cli.pipeline.encoders.stored import store_embeddings
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import WorkspaceError

TEXTS = [f"text {n}" for n in range(11)]


def lengths(block):
    return torch.tensor([[float(text.split()[1]), len(block)] for text in block])


def store(file, encode=lengths, texts=TEXTS):
    return store_embeddings(file, texts, encode, label="", progress=Silent())


@pytest.fixture(autouse=True)
def _blocks_of_four(monkeypatch):
    monkeypatch.setattr(stored, "TEXTS_AT_ONCE", 4)


def test_the_file_is_a_plain_npy_of_all_rows_in_order(tmp_path):
    found = store(tmp_path / "a.npy")
    expected = [[n, 4 if n < 8 else 3] for n in range(11)]
    assert found.tolist() == np.load(tmp_path / "a.npy").tolist() == expected
    assert found.dtype == np.float32


def test_a_whole_file_is_not_encoded_again(tmp_path):
    store(tmp_path / "a.npy")

    def never(block):
        raise AssertionError(block)

    assert len(store(tmp_path / "a.npy", never)) == 11


def test_wherever_it_was_cut_it_goes_on_to_the_same_bytes(tmp_path):
    store(tmp_path / "a.npy")
    whole = (tmp_path / "a.npy").read_bytes()
    header = len(whole) - 11 * 8
    asked = {}
    for size in (0, 5, header, header + 3, header + 32, header + 63, header + 64, len(whole) - 1):
        (tmp_path / "b.npy").write_bytes(whole[:size])
        blocks = []

        def watched(block, blocks=blocks):
            blocks.append(len(block))
            return lengths(block)

        store(tmp_path / "b.npy", watched)
        assert (tmp_path / "b.npy").read_bytes() == whole
        asked[size - header] = sum(blocks)
    assert list(asked.values()) == [11, 11, 11, 11, 7, 7, 3, 3]


def test_one_text_is_enough(tmp_path):
    assert store(tmp_path / "a.npy", texts=["text 5"]).tolist() == [[5, 1]]


def test_a_disk_without_room_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=11 * 8 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(WorkspaceError, match="embeddings of 11 texts take"):
        store(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_bytes() == b""
