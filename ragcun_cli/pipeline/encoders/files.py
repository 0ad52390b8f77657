"""The files of a saved encoder: which there have to be, and which decide what it computes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragcun_cli.spec.errors import EncoderError
from ragcun_cli.spec.manifest import digest, digest_once

WEIGHTS = "model.safetensors"

TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "merges.txt"),
)
"""A model that reads texts has one of these."""

TEXT_FILES = (
    *TOKENIZERS,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("sentence_bert_config.json", "config_sentence_transformers.json"),
)
"""Decide what becomes of a text: tokens, maximum length, prompts, similarity."""

ROUTER = "router_config.json"


def modules_of(folder: Path) -> dict[Path, str]:
    """Where the modules of a sentence-transformers folder lie, and of which type each is.

    Those behind a Router are among them.
    """
    content = read_json(folder / "modules.json")
    modules = [m for m in content if isinstance(m, dict)] if isinstance(content, list) else []
    return {
        place: kind
        for module in modules
        for place, kind in _with_routes(folder / str(module.get("path", "")), module.get("type"))
    }


def _with_routes(folder: Path, kind: object) -> Iterator[tuple[Path, str]]:
    yield folder, str(kind)
    routes = read_json(folder / ROUTER)
    if isinstance(routes, dict):
        for name, other in routes.get("types", {}).items():
            yield from _with_routes(folder / str(name), other)


def lacking(folder: Path) -> list[str]:
    """What ``modules.json`` names and is not there; a Normalize has nothing that needs a folder."""
    return [
        place.relative_to(folder).as_posix()
        for place, kind in modules_of(folder).items()
        if not kind.endswith(".Normalize") and next(place.glob("*"), None) is None
    ]


def files_digest(folder: Path) -> str:
    """Digest of the files that decide what the encoder computes, and of no others in the folder."""
    places = dict.fromkeys([folder, *modules_of(folder)])
    names = ("modules.json", "config.json", ROUTER, WEIGHTS, *TEXT_FILES)
    present = sorted({place / name for place in places for name in names})
    return digest(
        {
            file.relative_to(folder).as_posix(): digest_once(file)
            for file in present
            if file.is_file()
        }
    )


def first_weights(folder: Path) -> Path:
    """The weights of an encoder's first module that has any.

    Raises:
        EncoderError: it is no folder of a dense encoder with all that it needs.
    """
    modules = modules_of(folder)
    if not modules:
        raise EncoderError(
            f"{folder} is no sentence-transformers folder: it has no modules.json that can be read",
            hint="save it with SentenceTransformer(...).save(FOLDER)",
        )
    if (kind := saved_as(folder)) in ("CrossEncoder", "SparseEncoder"):
        raise EncoderError(
            f"{folder} is a {kind}, which gives texts no dense embeddings",
            hint="--set mining.rescore=cross-encoder, if it is to score pairs in mining",
        )
    if absent := lacking(folder):
        raise EncoderError(
            f"{folder} lacks {', '.join(absent)}, which its modules.json names",
            hint="copy or download it whole, with the folders that lie in it",
        )
    weights = [place / WEIGHTS for place in modules if (place / WEIGHTS).is_file()]
    pickled = [
        p for place in modules for p in place.glob("*.bin") if place / WEIGHTS not in weights
    ]
    if not weights or pickled:
        raise EncoderError(
            f"{folder} has not all its weights in safetensors format; pickled weights are never "
            "loaded",
            hint="save it with SentenceTransformer(...).save(FOLDER)",
        )
    if not any((place / name).is_file() for place in (folder, *modules) for name in TOKENIZERS):
        raise EncoderError(
            f"{folder} has no tokenizer", hint="save it with SentenceTransformer(...).save(FOLDER)"
        )
    return weights[0]


def saved_as(folder: Path) -> str | None:
    """Which of sentence-transformers' kinds of model was saved; None where that is not said."""
    content = read_json(folder / "config_sentence_transformers.json")
    kind: str | None = content.get("model_type") if isinstance(content, dict) else None
    return kind


def read_json(file: Path) -> Any:  # noqa: ANN401
    """The content of a JSON file; None where there is none that can be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
