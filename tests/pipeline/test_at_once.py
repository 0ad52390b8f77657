"""Several processes that begin at once in a workspace where nothing is yet."""

import multiprocessing
from dataclasses import replace

import torch

from ragcun_cli.pipeline.data.pydocs.build import _cached_pairs
from ragcun_cli.pipeline.data.sets import beir
from ragcun_cli.pipeline.encoders.find import fetch_encoder
from ragcun_cli.pipeline.encoders.kept import open_cache
from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.pipeline.encoders.tiny import TINY_ENCODER
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.marks import damaged_files
from ragcun_cli.spec.measuring_config import EvaluationConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig


def fill_a_fresh_workspace(root, corpus, together):
    """All that has no lock of a stage around it, as each of several commands begins it."""
    workspace = Workspace(root, root / "data")
    for turn in range(3):
        together.wait(20)
        fetch_encoder(EncoderConfig(base=TINY_ENCODER), replace(workspace, data=root / f"{turn}"))
    source = ModelSource(root / "0" / "encoders" / "tiny", "cpu")
    for turn in range(4):
        together.wait(20)
        cache = open_cache(source, corpus, f"{turn}", EvaluationConfig(), workspace)
        for start in range(4):
            cache.write(range(start, start + 1), torch.full((1, 8), float(start)))
            assert cache.read(range(start, start + 1)).mean() == start
    for turn in range(4):
        together.wait(20)
        assert _cached_pairs("filelock", workspace.docstrings("filelock", f"{turn}"), Silent())


def test_processes_that_begin_a_fresh_workspace_at_once_all_go_on(tmp_path):
    beir.write_set(tmp_path / "set", corpus={"p": "text"}, queries={}, qrels={})
    corpus = beir.Corpus.open(tmp_path / "set")
    context = multiprocessing.get_context("fork")
    together = context.Barrier(3)
    started = [
        context.Process(target=fill_a_fresh_workspace, args=(tmp_path / "work", corpus, together))
        for _ in range(3)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            together.abort()  # the others would wait for it
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert not list(damaged_files(tmp_path / "work" / "cache"))
