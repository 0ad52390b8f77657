"""The folder that servers load: a model with its graph."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sentence_transformers.sentence_transformer.modules import Pooling

from ragcun_cli.core.folders import is_writable, whole_folder
from ragcun_cli.core.model import as_served, without_dropout, without_length
from ragcun_cli.pipeline.encoders.kept import EmbeddingCache
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.search.dense import PLAIN, Search, max_tokens, named_hits
from ragcun_cli.pipeline.search.judged import JudgedSet
from ragcun_cli.pipeline.search.rankings import mean_ndcg, ranking_of
from ragcun_cli.pipeline.serving import graph
from ragcun_cli.pipeline.serving.texts import check_texts
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.measuring_config import EvaluationConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

GRAPH, INT8 = "onnx/model.onnx", "onnx/model_int8.onnx"

_POOLINGS = {
    "cls": "cls_token",
    "mean": "mean_tokens",
    "max": "max_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
"""Pooling -> how the key ended that it had before sentence-transformers 5.4, as servers read it."""


def export_model(
    model: SentenceTransformer,
    name: str,
    folder: Path,
    *,
    cosine: bool,
    int8: bool,
    force: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Write a folder with the model and its whole graph; what it holds, as JSON.

    Args:
        model: to export; without cosine its graph computes what it does, to rounding.
        name: of the model, for people.
        folder: is whole or not there.
        cosine: whether embeddings are brought to length 1 and compared by cosine.
        int8: whether a graph with weights in int8 lies beside the one in fp32.
        force: whether an earlier export is replaced.
        progress: is told.

    Raises:
        RagcunError: a package is missing, or the folder is there and is not to be replaced.
        EncoderError: the model does not go into a graph, or the graph computes something else.
    """
    graph.require_onnx()
    graph.refuse_no_graph(model, name)
    _refuse_taken(folder, force=force)
    model = without_dropout(as_served(model))
    if cosine:
        model = without_length(model)
    texts = check_texts(model)
    with whole_folder(folder) as draft:
        model.save(str(draft), create_model_card=False)
        _speak_to_servers(draft, model)
        (draft / GRAPH).parent.mkdir()
        progress.note(f"{name}: writing the graph, which takes a while")
        graph.write_graph(model, name, draft / GRAPH)
        found: dict[str, Any] = {
            "model": name,
            "folder": str(folder),
            "dimensions": model.get_embedding_dimension(),
            "similarity": model.similarity_fn_name,
            "graph": GRAPH,
            "largest_difference_of_the_norm": graph.require_equal(
                model, name, draft / GRAPH, texts
            ),
            "texts": len(texts),
        }
        if int8:
            distance = graph.quantise_graph(model, draft / GRAPH, draft / INT8, texts)
            found["int8"] = {"graph": INT8, "largest_cosine_distance": distance}
    return found


def _refuse_taken(folder: Path, *, force: bool) -> None:
    """Pass if nothing is lost; a folder that is no export is never replaced."""
    if not is_writable(folder.parent):
        raise WorkspaceError(f"{folder} cannot be written", hint="--onnx FOLDER, one you can write")
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    is_export = (folder / GRAPH).is_file()
    if not is_free and not (force and is_export):
        raise WorkspaceError(
            f"{folder} is there already{'' if is_export else ', and is no export'}",
            hint="--force replaces it" if is_export else "--onnx FOLDER, a new one",
        )


def _speak_to_servers(folder: Path, model: SentenceTransformer) -> None:
    """Say length and pooling under the older keys, too, which most servers read."""
    _add(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens(model)})
    for number, part in enumerate(model):
        if isinstance(part, Pooling):
            modes = part.pooling_mode
            chosen = {modes} if isinstance(modes, str) else {*modes}
            older = {f"pooling_mode_{key}": mode in chosen for mode, key in _POOLINGS.items()}
            width = {"word_embedding_dimension": part.embedding_dimension}
            _add(folder / f"{number}_Pooling/config.json", width | older)


def _add(file: Path, values: dict[str, Any]) -> None:
    content = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(content | values, indent=2) + "\n", "utf-8")


def cosine_cost(
    model: SentenceTransformer, test: JudgedSet, config: EvaluationConfig, progress: Progress
) -> dict[str, float]:
    """nDCG@10 of a test set by the model's own similarity and by cosine, and points between.

    Raises:
        EncoderError: as `Search`.
    """
    found: dict[str, float] = {}
    with TemporaryDirectory() as kept:
        for name in ("model", "cosine"):
            how = config.model_copy(update={"similarity": name, "depth": 100})
            cache = EmbeddingCache(Path(kept))  # encodes the passages once for both
            hits = Search(model, test, how, cache=cache, progress=progress).run()[PLAIN]
            ranking = ranking_of(named_hits(hits, test.queries), test.corpus, depth=how.depth)
            found[name] = mean_ndcg(ranking, test)
    return found | {"points": 100 * (found["cosine"] - found["model"])}
