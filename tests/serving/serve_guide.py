"""The snippets of docs/guides/serve.md, run as they stand and held against our exact search.

Run by `make test-serving` in an environment that has the stores and not ragcun.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from ragcun_cli.core.model import build_encoder, without_normalize
from ragcun_cli.core.search.ranking import ExactTopK
from ragcun_cli.pipeline.encoders.tiny import build_tiny_encoder

GUIDE = Path(__file__).parents[2] / "docs/guides/serve.md"
SNIPPETS = dict(
    re.findall(r"^### (.+?)\n\n```python\n(.+?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)
)
STORES = [
    *("sentence-transformers", "faiss", "LangChain", "LlamaIndex", "Qdrant", "Chroma"),
    *("LanceDB", "Milvus", "pgvector"),
]
DEFAULTS = {
    "LangChain": ", distance=Distance.EUCLID",
    "LlamaIndex": "normalize=False, ",
    "Milvus": ', metric_type="L2"',
}
"""What a snippet sets and has to, since without it the store ranks by cosine."""
QUERY = "how high is the old tower"
WORDS = re.findall(
    r"\w+",
    "the tower river stone bridge is of in old high long built by a king year north city wall gate "
    "iron glass and metres was lake small",
)


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """A folder with `model` and `corpus.jsonl`: a random head whose vectors differ in length."""
    folder = tmp_path_factory.mktemp("served")
    build_tiny_encoder(folder / "tiny")
    prompts = {"query": "query: "}
    base = SentenceTransformer(str(folder / "tiny"), device="cpu", prompts=prompts)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_encoder(
            without_normalize(base),
            output_dim=48,
            dropout=0.1,
            similarity="euclidean",
            linear_start=None,
        )
    with torch.no_grad():
        for module in model:
            if hasattr(module, "linear"):
                module.linear.weight.mul_(3)
    model.save(str(folder / "model"), create_model_card=False)
    draw = random.Random(0)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for number in range(300):
            title = draw.choice(["", "Tower", "River bridge"])
            text = " ".join(draw.choices(WORDS, k=draw.randint(2, 30)))
            file.write(json.dumps({"_id": f"d{number:03}", "title": title, "text": text}) + "\n")
    return folder


@pytest.fixture(scope="session")
def rows(served):
    return [json.loads(line) for line in (served / "corpus.jsonl").open(encoding="utf-8")]


@pytest.fixture(scope="session")
def vectors(served, rows):
    """Of the query and of the passages, as the model's own methods make them."""
    model = SentenceTransformer(str(served / "model"), device="cpu")
    passages = model.encode_document([f"{row['title']} {row['text']}".strip() for row in rows])
    return {
        "query": model.encode_query(QUERY),
        "passages": passages,
        "without prompt": model.encode(QUERY),
        "without titles": model.encode_document([row["text"] for row in rows]),
    }


def ten(query, passages, rows, similarity="euclidean"):
    """Ids of the nearest, by ragcun's exact search; equal scores in the order of the corpus."""
    search = ExactTopK(torch.from_numpy(query[None]), k=10, similarity=similarity)
    search.add(torch.from_numpy(passages), first_row=0)
    return [rows[number]["_id"] for number in search.hits().rows[0]]


def printed(name, snippet, served, folder):
    """Lines on stdout of a process of its own, which finds a model and a corpus and no network."""
    shutil.copytree(served / "model", folder / "model")
    shutil.copy(served / "corpus.jsonl", folder)
    (folder / "snippet.py").write_text(snippet, encoding="utf-8")
    quiet = {"HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "False", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "snippet.py"],
        cwd=folder,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}"
    return done.stdout.splitlines()


def test_the_guide_has_a_snippet_for_each_store():
    assert list(SNIPPETS) == STORES
    assert all(SNIPPETS[name].count(QUERY) == 1 for name in STORES)


def test_the_ten_hang_on_distance_prompt_and_title_and_not_on_rounding(vectors, rows):
    query, passages = vectors["query"], vectors["passages"]
    ours = ten(query, passages, rows)
    others = [
        ten(query, passages, rows, similarity="cosine"),
        ten(query, passages, rows, similarity="dot"),
        ten(vectors["without prompt"], passages, rows),
        ten(query, vectors["without titles"], rows),
    ]
    assert ours not in others
    # By hand, too, in float64; and no two neighbours are so near that float32 may swap them.
    squares = ((passages.astype(float) - query.astype(float)) ** 2).sum(1)
    assert [rows[number]["_id"] for number in np.argsort(squares, kind="stable")[:10]] == ours
    assert np.diff(np.sort(squares)[:11]).min() > 1e-3


@pytest.mark.parametrize("name", STORES)
def test_a_snippet_prints_our_ten_in_our_order(name, served, vectors, rows, tmp_path):
    ours = ten(vectors["query"], vectors["passages"], rows)
    assert printed(name, SNIPPETS[name], served, tmp_path) == ours


@pytest.mark.parametrize("name", DEFAULTS)
def test_without_what_the_guide_says_to_set_the_cosine_ranks(name, served, vectors, rows, tmp_path):
    assert SNIPPETS[name].count(DEFAULTS[name]) == 1
    found = printed(name, SNIPPETS[name].replace(DEFAULTS[name], ""), served, tmp_path)
    cosine = ten(vectors["query"], vectors["passages"], rows, similarity="cosine")
    assert found == cosine != ten(vectors["query"], vectors["passages"], rows)
