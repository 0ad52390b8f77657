"""A saved model, in a form that other processes can load it from, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragcun_cli.pipeline.encoders.files import files_digest
from ragcun_cli.pipeline.encoders.find import FoundEncoder, load_encoder, load_model
from ragcun_cli.pipeline.machine.progress import Progress, Silent
from ragcun_cli.spec.paths import OutputsFolder
from ragcun_cli.spec.profile import EncoderConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NOBODY = Silent()


@dataclass(frozen=True)
class ModelSource:
    """A saved model, in a form that another process can load it from."""

    folder: Path
    device: str
    base: tuple[FoundEncoder, EncoderConfig] | None = None
    """Of a base encoder that nothing was put on top of."""

    outputs: OutputsFolder | None = None
    """Where outputs of its base are kept; None where it is run each time."""

    def digest(self) -> str:
        """Of all that decides what the model computes, but its device."""
        return files_digest(self.folder)

    def on(self, device: str) -> ModelSource:
        """The same model on another device."""
        return replace(self, device=device)

    def load(self, progress: Progress = NOBODY) -> SentenceTransformer:
        """The model; the last one that this process loaded is kept."""
        from ragcun_cli.core.model import head_size
        from ragcun_cli.pipeline.encoders.base_outputs import keep_base

        global _last
        if _last is None or _last[0] != self:
            _last = None  # let go of the old one first: two may not fit
            if self.base is None:
                model = load_model(self.folder, device=self.device)
                head = 0 if self.outputs is None else head_size(model)
            else:
                found, config = self.base
                model, head = load_encoder(found, config, device=self.device), 0
            if self.outputs is not None:
                keep_base(model, self.outputs, head=head, progress=progress)
            _last = self, model
        return _last[1]


_last: tuple[ModelSource, SentenceTransformer] | None = None
