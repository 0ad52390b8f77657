"""The models that mining asks for beside BM25: found, fetched, and named by their digests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.encoders import files
from ragcun_cli.pipeline.encoders.find import (
    FoundEncoder,
    download,
    fetch_encoder,
    find_encoder,
    find_folder,
)
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Workload
from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.manifest import digest, digest_once
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import Workspace
from ragcun_cli.spec.profile import EncoderConfig

CHECKPOINT_FILES = ("config.json", "modules.json", "tokenizer_config.json", "vocab.txt")
"""Files of a cross-encoder that change its scores, beside weights and ``TEXT_FILES``."""


class MiningModels:
    """Looks up, once each, the models that minings name."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._found: dict[tuple[EncoderConfig, bool], FoundEncoder | None] = {}

    def find(self, config: MiningConfig) -> dict[str, FoundEncoder | None]:
        """Key of the profile -> the model it names, None where this machine has yet to fetch it.

        Raises:
            EncoderError: what lies there is not such a model, has no weights in safetensors, or
                others than the profile names.
        """
        return {key: self._find(key, config) for key in _named(config)}

    def fetch(self, config: MiningConfig) -> dict[str, FoundEncoder]:
        """The same, brought here if need be.

        Raises:
            EncoderError: as `find`, or the Hub cannot be reached or does not have it.
        """
        return {key: self._fetch(key, config) for key in _named(config)}

    def digests(self, config: MiningConfig, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """What of the models changes numbers; of one that is not here, what a mining recorded."""
        return {
            key: recorded.get(key, {}).get("digests") if found is None else found.digests()
            for key, found in self.find(config).items()
        }

    def work(self, config: MiningConfig, *, queries: int, passages: int, tokens: float) -> Workload:
        """A guess of what the models add to a mining."""
        texts = {"dense_model": passages, "rescore_model": queries * config.depth}
        flops, shared = 0.0, {}
        for key, found in self.find(config).items():
            shape = estimate.shape_of(None if found is None else found.config(), "")
            flops += shape.forward(texts[key], min(tokens, 512))
            if found is None:
                shared[f"weights of {key}"] = Workload(download_bytes=4 * shape.parameters)
        return Workload(flops, base=config.dense_model or config.rescore_model or "", shared=shared)

    def _find(self, key: str, config: MiningConfig) -> FoundEncoder | None:
        named, crossed = _named(config)[key], _is_crossed(key, config)
        if (named, crossed) not in self._found:
            if crossed:
                place = find_folder(named, self._workspace, marker="config.json")
                found = None if place is None else _cross_encoder(named.base, *place)
            else:
                found = find_encoder(named, self._workspace)
            self._found[named, crossed] = found
        return self._as_pinned(key, config, self._found[named, crossed])

    def _fetch(self, key: str, config: MiningConfig) -> FoundEncoder:
        if (found := self._find(key, config)) is not None:
            return found
        named, crossed = _named(config)[key], _is_crossed(key, config)
        try:
            if crossed:
                found = _cross_encoder(named.base, download(named), "hub")
            else:
                found = fetch_encoder(named, self._workspace)
        except EncoderError as error:
            a_path = named.base.startswith((".", "~")) or named.base.count("/") != 1
            hint = f"--set mining.{key}=FOLDER, one that holds a saved model"
            raise EncoderError(
                f"mining.{key}: {error}", hint=hint if a_path else error.hint
            ) from error
        self._found[named, crossed] = found
        self._as_pinned(key, config, found)
        return found

    def _as_pinned(
        self, key: str, config: MiningConfig, found: FoundEncoder | None
    ) -> FoundEncoder | None:
        pinned = getattr(config, f"{key}_sha256")
        if found is None or pinned in (None, found.sha256):
            return found
        raise EncoderError(
            f"mining.{key} '{found.name}' ({found.source}) has weights with sha256 "
            f"{found.sha256}, and the profile names {pinned}",
            hint=f"change mining.{key}_sha256, or mining.{key}_revision, in the profile",
        )


def _named(config: MiningConfig) -> dict[str, EncoderConfig]:
    """Key of the profile -> name and revision of the model; its digest is compared when found."""
    names = {
        "dense_model": (config.dense_model, config.dense_model_revision),
        "rescore_model": (config.rescore_model, config.rescore_model_revision),
    }
    return {
        key: EncoderConfig(base=name, revision=revision)
        for key, (name, revision) in names.items()
        if name is not None
    }


def _is_crossed(key: str, config: MiningConfig) -> bool:
    return key == "rescore_model" and config.rescore == "cross-encoder"


def _cross_encoder(name: str, folder: Path, source: str) -> FoundEncoder:
    """A saved cross-encoder; the Hub's are often plain checkpoints without a list of modules."""
    with files.reading(folder, "a cross-encoder"):
        files.refuse_parts(folder)
        architectures = (files.read_json(folder / "config.json") or {}).get("architectures") or [""]
        classifies = str(architectures[0]).endswith("ForSequenceClassification")
        if not classifies and files.saved_as(folder) != "CrossEncoder":
            raise EncoderError(
                f"{folder} is no cross-encoder: a head to score pairs would be random",
                hint="--set mining.rescore=dense, if it is a SentenceTransformer",
            )
        weights = files.weight_files(folder)
        if not weights:
            raise EncoderError(
                f"{folder} has no weights in safetensors format; pickled weights are never loaded",
                hint="save it with CrossEncoder(...).save(FOLDER)",
            )
        others = (folder / file for file in (*files.TEXT_FILES, *CHECKPOINT_FILES))
        read = [*weights, *(file for file in others if file.is_file())]
        digests = {file.name: digest_once(file) for file in read}
        size = sum(file.stat().st_size for file in weights)
        weights_digest = files.weights_digest(weights)
    return FoundEncoder(name, folder, source, weights_digest, digest(digests), size)
