"""Scores of passages for a query by a second model, as a guard against false negatives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from ragcun_cli.core.search.ranking import exact_scores
from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, Side, encode, told
from ragcun_cli.pipeline.encoders.files import reading
from ragcun_cli.pipeline.encoders.find import load_model, load_saved
from ragcun_cli.pipeline.encoders.look import refuse_unsteady
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.pipeline.search.dense import own_similarity
from ragcun_cli.pipeline.search.hits import Scorer
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.mining_config import MiningConfig


def load_scorer(folder: Path, config: MiningConfig, *, device: str) -> Scorer:
    """The model that hits are scored again with.

    Raises:
        EncoderError: the files make no such model, or the margin leaves nothing of its scores.
    """
    if config.rescore == "cross-encoder":
        return CrossScores(folder, device=device)
    scorer = DenseScores(folder, device=device)
    if scorer.similarity == "cosine" and config.rescore_margin > 2:
        raise EncoderError(
            f"{folder} scores by cosines, from -1 to 1: no passage lies "
            f"{config.rescore_margin:g} below another",
            hint="--set mining.rescore_margin=0.05",
        )
    return scorer


class CrossScores:
    """Logits of a cross-encoder, without the activation that its model card asks for."""

    def __init__(self, folder: Path, *, device: str) -> None:
        self._model = load_saved(CrossEncoder, folder, device=device, what="a cross-encoder")
        self._folder = folder
        if self._model.num_labels != 1:
            raise EncoderError(
                f"{folder} gives {self._model.num_labels} scores a pair; one is needed",
                hint="--set mining.rescore_model=cross-encoder/ms-marco-MiniLM-L6-v2",
            )
        with reading(folder, "a cross-encoder"):
            refuse_unsteady(
                folder,
                self._model.tokenizer,
                lambda texts: torch.from_numpy(self.scores("query", texts))[:, None],
            )

    def scores(self, query: str, passages: Sequence[str]) -> NDArray[np.float64]:
        """Logits, as `Scorer` says."""
        with told(self._model):
            logits: torch.Tensor = self._model.predict(
                [(query, passage) for passage in passages],
                batch_size=BATCH_TEXTS,
                activation_fn=torch.nn.Identity(),
                show_progress_bar=False,
                convert_to_tensor=True,
            )
        return _finite(logits.double().cpu().numpy(), self._folder)


class DenseScores:
    """A SentenceTransformer's own similarity of its embeddings as they are, in float64."""

    def __init__(self, folder: Path, *, device: str) -> None:
        self._model = load_model(folder, device=device)
        self.similarity = own_similarity(
            self._model, name=f"{folder}", hint="save it with similarity_fn_name='cosine'"
        )
        self._folder = folder
        self._last: tuple[str, torch.Tensor] | None = None

    def scores(self, query: str, passages: Sequence[str]) -> NDArray[np.float64]:
        """Similarities, as `Scorer` says."""
        if self._last is None or self._last[0] != query:
            self._last = query, self._embeddings([query], "query")
        found = self._embeddings(passages, "document")
        asked = self._last[1].expand(len(found), -1)
        scores = exact_scores(asked.double(), found.double(), similarity=self.similarity)
        return _finite(scores.numpy(), self._folder)

    def _embeddings(self, texts: Sequence[str], side: Side) -> torch.Tensor:
        """``(n, d)`` fp32 on the CPU, of queries or of documents."""
        return encode(
            self._model,
            texts,
            side=side,
            batch_size=BATCH_TEXTS,
            label="",
            progress=Silent(),
        ).cpu()


def _finite(scores: NDArray[np.float64], folder: Path) -> NDArray[np.float64]:
    if not np.isfinite(scores).all():
        raise EncoderError(
            f"{folder} gives a score that is not finite: its weights are broken, or a text has an "
            "embedding of length 0, which has no cosine"
        )
    return scores
