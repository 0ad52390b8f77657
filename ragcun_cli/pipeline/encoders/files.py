"""The files of a saved encoder: which there have to be, and which decide what it computes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ragcun_cli.spec.errors import EncoderError, RagcunError, first_line
from ragcun_cli.spec.manifest import digest, digest_once

WEIGHTS = "model.safetensors"
SHARD_LIST = "model.safetensors.index.json"
"""Says which of several files has which weights, where they are not in one."""

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
ADAPTER = "adapter_config.json"


@contextmanager
def reading(folder: Path, what: str = "an encoder") -> Iterator[None]:
    """Tell whatever goes wrong with the files of a model in one message that names their folder.

    Raises:
        EncoderError: something did; ``what`` they were to be.
    """
    try:
        yield
    except RagcunError:
        raise
    except Exception as error:
        said = first_line(error)
        raise EncoderError(
            f"{folder} cannot be loaded as {what}: {said} ({type(error).__name__})",
            hint="copy or download it anew, or save it again with SentenceTransformer's save",
        ) from error


def modules_of(folder: Path) -> dict[Path, str]:
    """Where the modules of a sentence-transformers folder lie, and of which type each is.

    Those behind a Router are among them.
    """
    content = read_json(folder / "modules.json")
    modules = [m for m in content if isinstance(m, dict)] if isinstance(content, list) else []
    listed = ((folder / str(module.get("path", "")), module.get("type")) for module in modules)
    return dict(found for place, kind in listed for found in _with_routes(place, kind))


def _with_routes(folder: Path, kind: object) -> Iterator[tuple[Path, str]]:
    yield folder, str(kind)
    routes = read_json(folder / ROUTER)
    if isinstance(routes, dict):
        for name, other in routes.get("types", {}).items():
            yield from _with_routes(folder / str(name), other)


def weight_files(place: Path) -> list[Path]:
    """Where the weights of one module lie, as its own files say; none where it has none.

    Raises:
        EncoderError: its list of several files cannot be, or leads elsewhere.
    """
    if (place / WEIGHTS).is_file():
        return [place / WEIGHTS]
    if not (place / SHARD_LIST).is_file() and not any(place.glob("model-*.safetensors")):
        return []
    try:
        names = {str(name) for name in read_json(place / SHARD_LIST)["weight_map"].values()}
    except (TypeError, KeyError, AttributeError):
        names = {""}
    if not all(re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names or {""}):
        what = f"{place / SHARD_LIST} names no files of weights beside it"
        raise EncoderError(what, hint="copy or download it anew")
    return sorted(place / name for name in names)


def lacking(folder: Path) -> list[Path]:
    """What its lists name and is not there: folders of modules, files of weights.

    A Normalize has nothing that needs a folder.
    """
    modules = modules_of(folder)
    empty = [place for place in modules if not any(place.glob("*"))]
    absent = [place for place in empty if not modules[place].endswith(".Normalize")]
    named = (file for place in modules or [folder] for file in weight_files(place))
    return absent + [file for file in named if not file.is_file()]


def refuse_parts(folder: Path) -> None:
    """Refuse what is no model by itself.

    Raises:
        EncoderError: an adapter, or a model without all that its lists name.
    """
    for place in {folder, *modules_of(folder)}:
        if (place / ADAPTER).is_file():
            base = (read_json(place / ADAPTER) or {}).get("base_model_name_or_path")
            raise EncoderError(
                f"{folder} is an adapter to the weights of {base}, and has to be merged with them",
                hint="load both with peft, model.merge_and_unload(), and save the whole",
            )
    if absent := lacking(folder):
        names = ", ".join(place.relative_to(folder).as_posix() for place in absent)
        raise EncoderError(
            f"{folder} lacks {names}, which its modules.json or {SHARD_LIST} names",
            hint="copy or download it whole, with the folders that lie in it",
        )


def files_digest(folder: Path) -> str:
    """Digest of the files that decide what the encoder computes, and of no others in the folder."""
    places = dict.fromkeys([folder, *modules_of(folder)])
    names = ("modules.json", "config.json", ROUTER, *TEXT_FILES)
    weights = {file for place in places for file in weight_files(place)}
    present = sorted({place / name for place in places for name in names} | weights)
    return digest(
        {
            file.relative_to(folder).as_posix(): digest_once(file)
            for file in present
            if file.is_file()
        }
    )


def weights_digest(weights: Sequence[Path]) -> str:
    """sha256 of a file of weights; of several, a digest of theirs by name."""
    if len(weights) == 1:
        return digest_once(weights[0])
    return digest({file.name: digest_once(file) for file in weights})


def first_weights(folder: Path) -> list[Path]:
    """The weights of an encoder's first module that has any, mostly one file.

    Raises:
        EncoderError: it is no folder of a dense encoder with all that it needs.
    """
    refuse_parts(folder)
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
    weights = {place: weight_files(place) for place in modules}
    pickled = [place for place in modules if not weights[place] and any(place.glob("*.bin"))]
    if not any(weights.values()) or pickled:
        raise EncoderError(
            f"{folder} has not all its weights in safetensors format; pickled weights are never "
            "loaded",
            hint="save it with SentenceTransformer(...).save(FOLDER)",
        )
    if not any((place / name).is_file() for place in (folder, *modules) for name in TOKENIZERS):
        raise EncoderError(
            f"{folder} has no tokenizer", hint="save it with SentenceTransformer(...).save(FOLDER)"
        )
    return next(filter(None, weights.values()))


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
