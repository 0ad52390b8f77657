"""A whole model as one ONNX graph, from token ids to the embedding, held against the model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn

from ragcun_cli.pipeline.encoders.encode import encode_block
from ragcun_cli.pipeline.serving.compare import largest
from ragcun_cli.spec.errors import EncoderError, RagcunError, extra_hint, first_line

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TOKENS, EMBEDDING = "token_embeddings", "sentence_embedding"

MOST_DIFFERENCE = 1e-4
"""Of the norm of an embedding, between the graph and the model; rounding in fp32 makes 1e-6."""


class _Graph(nn.Module):
    """What a model makes of tokens, as a function of tensors alone."""

    def __init__(self, model: SentenceTransformer, names: Sequence[str]) -> None:
        super().__init__()
        self._model, self._names = model, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of the tokens, from which sentence-transformers goes on, and of the texts."""
        features = self._model(dict(zip(self._names, inputs, strict=True)))
        return features[TOKENS], features[EMBEDDING]


def require_onnx() -> None:
    """Pass if what writes and runs graphs is installed.

    Raises:
        RagcunError: it is not.
    """
    wanted = ("onnx", "onnxruntime", "onnxscript")
    if missing := [name for name in wanted if find_spec(name) is None]:
        raise RagcunError(
            f"an ONNX graph needs packages that are not installed: {', '.join(missing)}",
            hint=extra_hint("onnx"),
        )


def write_graph(model: SentenceTransformer, name: str, file: Path) -> None:
    """Write the whole model as a graph of fp32, for any number of texts of any length.

    Raises:
        EncoderError: the model has operations that PyTorch does not export.
    """
    model.eval()
    # Of unlike lengths: a mask without padding would be optimised away.
    features = model.preprocess(["a text", "another text that has a few more words"])
    names = [name for name in INPUTS if name in features]
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    loud = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), torch.inference_mode(mode=False):
            torch.onnx.export(
                _Graph(model, names),
                tuple(features[name] for name in names),
                file,
                input_names=names,
                output_names=[TOKENS, EMBEDDING],
                dynamic_shapes=((sizes,) * len(names),),
                dynamo=True,
                external_data=sum(4 * one.numel() for one in model.parameters()) > 1.9e9,
                verbose=False,
            )
    except Exception as error:
        raise EncoderError(
            f"{name} cannot be exported: {first_line(error)}", hint=_TORCH
        ) from error
    finally:
        logging.getLogger("torch.onnx").setLevel(loud)


_TORCH = "serve it with sentence-transformers, which runs every model of its own"


def refuse_no_graph(model: SentenceTransformer, name: str) -> None:
    """Pass if a graph of tokens can hold a model, as far as its modules tell.

    Raises:
        EncoderError: it cannot.
    """
    first = model[0]
    what = ""
    if isinstance(first, Router):
        what = "it treats queries and passages in different modules"
    elif not isinstance(first, Transformer) or getattr(model, "tokenizer", None) is None:
        what = f"it begins with {type(first).__name__}, which is no Transformer of texts"
    elif any(
        isinstance(part, Pooling) and not part.include_prompt and any(model.prompts.values())
        for part in model
    ):
        what = "its pooling leaves out the prompt, whose length a graph of tokens does not know"
    if what:
        raise EncoderError(f"{name} cannot be exported as a graph: {what}", hint=_TORCH)


def run_graph(model: SentenceTransformer, file: Path, texts: Sequence[str]) -> Tensor:
    """``(n, d)`` embeddings by onnxruntime, of texts that the model's own tokenizer reads."""
    import onnxruntime

    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads = torch.get_num_threads()
    how.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, how, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    rows = []
    for text in texts:  # alone and without padding; the model has them padded
        read = cast(Any, model.preprocess([text]))
        (found,) = session.run([EMBEDDING], {name: read[name].numpy() for name in names})
        rows.append(np.asarray(found))
    return torch.from_numpy(np.concatenate(rows))


def require_equal(model: SentenceTransformer, name: str, file: Path, texts: Sequence[str]) -> float:
    """The largest difference of the graph's embeddings, as a share of the model's norm.

    Raises:
        EncoderError: it is above MOST_DIFFERENCE.
    """
    own = encode_block(model, texts, batch_size=len(texts)).cpu()
    worst = largest(own, run_graph(model, file, texts))
    if not worst <= MOST_DIFFERENCE:
        raise EncoderError(
            f"the exported graph of {name} is not the model: its embeddings differ by up to "
            f"{worst:.1e} of their norm, where {MOST_DIFFERENCE:g} is allowed; nothing is kept",
            hint=_TORCH,
        )
    return worst


def quantise_graph(
    model: SentenceTransformer, file: Path, target: Path, texts: Sequence[str]
) -> float:
    """Write the graph with weights in int8; the largest cosine distance that this makes, in [0, 2].

    Activations are quantised as they come (onnxruntime's dynamic quantisation).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # it says on the root logger what it would like done before
    try:
        # One range for each column: with one a matrix MiniLM loses 0.13 instead of 0.02.
        quantize_dynamic(file, target, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    plain, small = (run_graph(model, one, texts).double() for one in (file, target))
    return float(1 - torch.cosine_similarity(plain, small).min())
