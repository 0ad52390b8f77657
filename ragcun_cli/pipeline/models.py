"""The models of runs, loaded one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ragcun_cli.pipeline.devices import check_precision
from ragcun_cli.pipeline.encoders import load_encoder, load_model
from ragcun_cli.pipeline.runs import Run
from ragcun_cli.spec.paths import MODEL

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ragcun_cli.pipeline.road import Road


class Models:
    """Keeps the last model, which a run's evaluations ask for one after the other."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._last: tuple[Path, SentenceTransformer] | None = None

    def load(self, run: Run) -> SentenceTransformer:
        """The model that a run's rows are about, on the road's device."""
        check_precision(run.profile.evaluation.precision, self._road.device)
        if self._last is None or self._last[0] != run.folder:
            self._last = None  # let go of the old one first: two may not fit
            self._last = (run.folder, self._load(run))
        return self._last[1]

    def _load(self, run: Run) -> SentenceTransformer:
        if run.reference == "untouched":
            config = run.profile.encoder
            return load_encoder(self._road.fetch_encoder(config), config, device=self._road.device)
        return load_model(run.folder / MODEL, device=self._road.device)
