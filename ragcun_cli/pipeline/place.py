"""One workspace on one machine: what every stage stands on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from ragcun_cli.pipeline.data.tasks import DataTasks
from ragcun_cli.pipeline.encoders.find import FoundEncoder, fetch_encoder, find_encoder
from ragcun_cli.pipeline.encoders.model_source import NOBODY, ModelSource
from ragcun_cli.pipeline.encoders.tiny import TINY_ENCODER
from ragcun_cli.pipeline.machine.devices import check_precision, choose_device, refuse_no_device
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.stages import estimate
from ragcun_cli.pipeline.stages.estimate import Machine, Shape, Workload
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec import paths
from ragcun_cli.spec.errors import WorkspaceError
from ragcun_cli.spec.manifest import Manifest, Stage, digest
from ragcun_cli.spec.paths import CACHE_GB, OutputsFolder, Workspace, path_of
from ragcun_cli.spec.profile import EncoderConfig
from ragcun_cli.spec.section import stated

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Place:
    """A workspace, its data sets, encoders and models, and the device that stages compute on.

    Nothing heavy is imported before it is asked for a device or a model.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        device: str = "auto",
        mirrors: Sequence[str] = (),
        cache_gb: float = CACHE_GB,
    ) -> None:
        self.workspace = workspace
        self.sets = DataTasks(workspace, mirrors=mirrors)
        refuse_no_device(device)
        self._device_name, self.cache_bytes = device, cache_gb * 1e9
        self._encoders: dict[str, FoundEncoder | None] = {}

    @property
    def words(self) -> tuple[str, ...]:
        """What a command says to stand on the same."""
        device = () if self._device_name == "auto" else ("--device", self._device_name)
        return (*device, "--cache-gb", f"{self.cache_bytes / 1e9:g}")

    @cached_property
    def device(self) -> str:
        """Where the stages compute; asking imports torch."""
        return choose_device(self._device_name)

    @property
    def machine(self) -> Machine:
        """What they are expected to compute on; asking imports nothing."""
        return estimate.machine_of(None, self._device_name)

    def refuse_device(self, runs: Sequence[Run], stages: Set[Stage]) -> None:
        """Find out before any work that stages of runs could not be computed here.

        Raises:
            RagcunError: the device is not there, or does not compute in a run's precision.
        """
        precisions: set[str] = set()
        for run in runs:
            if run.embeds and stages & {Stage.SEARCH, Stage.ISOTROPY}:
                precisions.add(run.profile.evaluation.precision)
            if run.reference is None and Stage.TRAIN in stages:
                precisions.add(run.profile.training.precision)
        if self._device_name not in ("auto", "cpu") or "fp16" in precisions:
            device = self.device
            for precision in precisions:
                check_precision(precision, device)

    # Encoders

    def encoder(self, config: EncoderConfig) -> FoundEncoder | None:
        """The base encoder a profile names, None where this machine has yet to fetch it."""
        key = digest(stated(config))
        if key not in self._encoders:
            self._encoders[key] = find_encoder(config, self.workspace)
        return self._encoders[key]

    def fetch_encoder(self, config: EncoderConfig) -> FoundEncoder:
        """The base encoder a profile names, brought here if need be."""
        found = self.encoder(config) or fetch_encoder(config, self.workspace)
        self._encoders[digest(stated(config))] = found
        return found

    def shape(self, config: EncoderConfig) -> Shape:
        """Layers and width of a base encoder, guessed before it is here."""
        found = self.encoder(config)
        return estimate.shape_of(None if found is None else found.config(), config.base)

    def encoding(
        self, run: Run, name: str, texts: tuple[float, float], *, trained: int = 0, once: str = ""
    ) -> Workload:
        """A guess of what it takes to encode texts with a run's encoder.

        Args:
            run: whose encoder and precision it is.
            name: of the data set.
            texts: passages and queries of it.
            trained: forward passes that a training step is worth, whose batches are padded.
            once: name of the texts, where a frozen base makes its outputs of them once for all
                heads, seeds and trials.
        """
        profile, config, shape = run.profile, run.profile.encoder, self.shape(run.profile.encoder)
        longest, precision = config.max_seq_length or 512, profile.evaluation.precision
        length = self.sets.tokens(name) * (estimate.PADDING if trained else 1)
        flops = shape.forward(texts[0], min(length, longest))
        flops += shape.forward(texts[1], min(estimate.QUERY_TOKENS, longest))
        a_text = shape.activations(longest, layers=1, half=precision != "fp32")
        held = 4 * shape.parameters + profile.evaluation.batch_size * a_text
        shared, own = {}, flops * (trained or 1)
        if config.base != TINY_ENCODER and self.encoder(config) is None:
            shared[f"weights of {config.base}"] = Workload(download_bytes=4 * shape.parameters)
        stays = run.reference is not None or profile.training.freeze_base
        if once and stays and profile.training.cache_frozen_base and not run.is_named_model:
            outputs = Workload(flops=flops, disk_bytes=4.0 * shape.hidden * sum(texts))
            shared[f"{estimate.OUTPUTS} {config.base} of {once}"], own = outputs, 0.0
        return Workload(own, precision, held_bytes=held, base=config.base, shared=shared)

    # Models

    def source(self, run: Run, *, keep: bool = False) -> ModelSource:
        """The model that a run's rows are about, on this place's device.

        Args:
            run: whose model it is.
            keep: outputs of its base, of a model that was named, too.

        Raises:
            RagcunError: the device does not compute in the precision of the run's evaluation.
        """
        check_precision(run.profile.evaluation.precision, self.device)
        if run.reference == "untouched":
            found = self.fetch_encoder(run.profile.encoder)
            outputs = self.outputs(run, found.digests(), keep=keep)
            return ModelSource(found.folder, self.device, (found, run.profile.encoder), outputs)
        trained = Manifest.load(run.folder / paths.MANIFEST).stages.get("train")
        base = None if trained is None else trained.details.get("encoder", {}).get("digests")
        outputs = None if base is None else self.outputs(run, base)
        return ModelSource(run.folder / paths.MODEL, self.device, outputs=outputs)

    def outputs(
        self, run: Run, encoder: Mapping[str, str], *, keep: bool = False
    ) -> OutputsFolder | None:
        """Where outputs of a run's base are kept; None where it is trained, or to be run each time.

        Args:
            run: a training, or a reference that shares its base.
            encoder: digests of the base.
            keep: those of a model that was named, too.
        """
        training = run.profile.training
        stays = run.reference is not None or training.freeze_base
        if not (stays and training.cache_frozen_base) or (run.is_named_model and not keep):
            return None
        return OutputsFolder(self.workspace.base_outputs, encoder, self.cache_bytes)

    def load(self, run: Run, progress: Progress = NOBODY) -> SentenceTransformer:
        """The model itself; the last one that was loaded is kept."""
        return self.source(run).load(progress)


def open_workspace(root: str | None) -> Workspace:
    """The workspace a person names; ./workspace by default.

    Raises:
        WorkspaceError: it is a file, or cannot be read.
    """
    path = path_of(root or "workspace")
    data = os.environ.get("RAGCUN_DATA")
    found = Workspace(root=path, data=path_of(data) if data else path / "data")
    for folder in (path, found.runs, found.data, found.datasets):
        try:
            with suppress(FileNotFoundError):
                next(folder.iterdir(), None)
        except OSError as error:
            raise WorkspaceError(
                f"workspace {path}: {folder} cannot be read: {error.strerror}",
                hint="--workspace FOLDER, and RAGCUN_WORKSPACE or RAGCUN_DATA where they are set",
            ) from error
    return found
