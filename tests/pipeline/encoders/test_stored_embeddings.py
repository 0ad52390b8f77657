import shutil

import numpy as np
import pytest
import torch

from ragcun_cli.pipeline.encoders.kept import EmbeddingCache, refuse_a_full_disk
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.errors import WorkspaceError

ROWS = torch.arange(22.0).reshape(11, 2)
BLOCKS = [range(4), range(4, 8), range(8, 11)]


@pytest.fixture
def kept(tmp_path):
    cache = EmbeddingCache(tmp_path)
    for rows in BLOCKS:
        cache.write(rows, ROWS[rows.start : rows.stop])
    return cache


def test_a_block_is_a_plain_npy_of_its_rows_beside_its_digest(kept, tmp_path):
    names = [f"{rows.start:010d}-{rows.stop:010d}" for rows in BLOCKS]
    found = [np.load(tmp_path / f"{name}.npy") for name in names]
    assert np.concatenate(found).tolist() == ROWS.tolist()
    assert {rows.dtype for rows in found} == {np.dtype(np.float32)}
    blocks = {name + ending for name in names for ending in (".npy", ".npy.sha256")}
    assert {file.name for file in tmp_path.iterdir()} == {".lock", *blocks}


def test_rows_of_any_blocks_are_taken_in_any_order(kept):
    rows = [10, 0, 7, 4, 3, 3, 8]
    taken = kept.take(np.array(rows))
    assert torch.equal(taken, ROWS[rows])
    assert torch.equal(kept.take(iter(rows)), taken)
    assert taken.dtype == torch.float32


def test_one_row_is_enough(tmp_path):
    EmbeddingCache(tmp_path / "one").write(range(1), torch.tensor([[5.0, 1.0]]))
    assert EmbeddingCache(tmp_path / "one").take([0]).tolist() == [[5, 1]]


@pytest.mark.parametrize("left", ["nothing", "a draft", "a block without its digest"])
def test_a_block_that_was_begun_is_none(tmp_path, left):
    if left == "a draft":
        (tmp_path / f".{0:010d}-{4:010d}.npy.draft").write_bytes(b"begun")
    if left == "a block without its digest":
        np.save(tmp_path / f"{0:010d}-{4:010d}.npy", ROWS[:3].numpy())
    cache = EmbeddingCache(tmp_path)
    assert cache.read(range(4)) is None
    cache.write(range(4), ROWS[:4])
    assert torch.equal(cache.read(range(4)), ROWS[:4])


def test_a_block_that_is_cut_short_is_refused(kept, tmp_path):
    file = tmp_path / f"{4:010d}-{8:010d}.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert torch.equal(kept.read(range(4)), ROWS[:4])
    with pytest.raises(WorkspaceError, match="is not what was written"):
        kept.read(range(4, 8))


class Noted(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_a_disk_without_room_for_what_is_not_kept_yet_is_an_error(kept, tmp_path, monkeypatch):
    sizes = sum(file.stat().st_size for file in tmp_path.glob("*.npy"))
    for free, room in ((4 * 1000 * 2 - sizes, True), (4 * 1000 * 2 - sizes - 1, False)):
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, usage=usage: usage)
        noted = Noted()
        if room:
            refuse_a_full_disk(tmp_path, 1000, dimensions=2, progress=noted)
            assert noted.notes == []
        else:
            with pytest.raises(WorkspaceError, match="embeddings of 1,000 texts take"):
                refuse_a_full_disk(tmp_path, 1000, dimensions=2, progress=noted)


def test_gigabytes_are_spoken_of(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    noted = Noted()
    refuse_a_full_disk(tmp_path, 1_000_000, dimensions=384, progress=noted)
    assert noted.notes == ["embeddings of 1,000,000 texts take 1.5 GB of disk, until all is done"]
