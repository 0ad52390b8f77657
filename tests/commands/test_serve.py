import json

import numpy as np
import pytest
from embedding_server import serving
from sentence_transformers import SentenceTransformer

from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    build_tiny_encoder(folder)
    return folder


@pytest.fixture
def embed(tiny):
    """What a server of the tiny model computes."""
    model = SentenceTransformer(str(tiny), device="cpu")
    return lambda texts, prompt_name: model.encode(texts).tolist()


def test_a_server_that_is_right_is_0_and_one_that_is_not_4(ragcun, tiny, embed, tmp_path):
    words = ("serve", "check", tiny, "-w", tmp_path / "ws", "--url")
    with serving(embed) as server:
        outcome = ragcun(*words, server.url)
        assert outcome.code == 0, outcome.err
        assert "equal" in outcome.out
        assert "yes" in outcome.out
        outcome = ragcun(*words, server.url, "--api", "tei", "--json")
        document = json.loads(outcome.out)
        assert (document["equal"], document["causes"], document["texts"]) == (True, [], 50)
        assert document["best_ten"]["queries"] == 50
    with serving(lambda texts, name: (2 * np.array(embed(texts, name)))[:, :10].tolist()) as server:
        outcome = ragcun(*words, server.url, "--json")
    assert outcome.code == 4
    assert json.loads(outcome.out)["equal"] is False
    assert "does not give the vectors of" in outcome.err
    assert "Hint: " in outcome.err


def test_what_cannot_be_compared_is_2_with_the_next_command(ragcun, tiny, embed, tmp_path):
    space = ("-w", tmp_path / "ws")
    (tmp_path / "empty").mkdir()
    vectors = ("--vectors", tmp_path / "v.npy", "--ids", tmp_path / "ids.txt")
    for words, said in (
        ((tiny,), "--url http://"),
        ((tiny, "--url", "http://localhost:1", *vectors), "--url http://"),
        ((tiny, *vectors[:2], "-d", "sea"), "--vectors FILE.npy --ids FILE"),
        ((tiny, *vectors), "--datasets NAME"),
        ((tiny, "--url", "localhost:8080"), "--url http://localhost:8080"),
        ((tiny, "--url", "http://localhost:1"), "curl -i"),
        ((tmp_path / "empty", "--url", "http://localhost:1"), "Hint: "),
        ((tmp_path / "nowhere", "--url", "http://localhost:1"), "Hint: "),
    ):
        outcome = ragcun("serve", "check", *words, *space)
        assert outcome.code == 2, (words, outcome)
        assert said in outcome.err
        assert "Traceback" not in outcome.err
        assert outcome.out == ""


@pytest.mark.needs("onnx", "onnxruntime", "onnxscript")
def test_an_export_of_a_run_is_served_as_its_model(ragcun, smoke_workspace, tmp_path):
    """Of a frozen one, which has a head; by the folder of the run."""
    (folder,) = smoke_workspace.glob("runs/frozen_efficient/*/seed-1")
    assert not list(folder.glob("model/*Dropout*"))
    space = ("-w", smoke_workspace)
    outcome = ragcun("serve", "export", folder, "--onnx", tmp_path / "out", "--json", *space)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["largest_difference_of_the_norm"] < 1e-5
    again = ragcun("serve", "export", folder, "--onnx", tmp_path / "out", *space)
    assert again.code == 2
    assert "--force replaces it" in again.err
    served = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    words = ("serve", "check", folder, *space, "-d", "smoke-numpy", "--url")
    with serving(lambda texts, name: served.encode(texts).tolist()) as server:
        outcome = ragcun(*words, server.url)
    assert outcome.code == 0, outcome.err
    assert "smoke-numpy" in outcome.out


def test_measuring_what_nothing_was_asked_of_is_refused(ragcun, tiny, tmp_path):
    words = ("serve", "export", tiny, "--onnx", tmp_path / "out", "-w", tmp_path / "ws")
    outcome = ragcun(*words, "--datasets", "scifact")
    assert outcome.code == 2
    assert "ragcun eval --model" in outcome.err
    (tmp_path / "file").write_text("")
    outcome = ragcun(*words[:4], tmp_path / "file", *words[5:])
    assert outcome.code == 2
    assert "is there already, and is no export" in outcome.err
