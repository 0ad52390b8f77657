"""Rough guesses of what a stage will cost, said before it starts. Never printed as a result.

A stage is an amount of work, whatever the machine; its time is that work over what a machine does
in a second. Where no other source is named, a rate is of docs/RESULTS.md, measured on two cores.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ragcun_cli.pipeline.machine.provenance import all_cores
from ragcun_cli.spec.errors import RagcunError

CORE_FLOPS = 6.5e10
"""Of matrix products, sustained by one modern core with everything around them: half as many by
the slower of two machines that reproduced quickstart, nearly twice as many by the other."""
DOWNLOAD_RATE = 20e6
"""Bytes a second: nobody knows the network before it is used."""
PASSAGE_TOKENS, QUERY_TOKENS, TOKENS_PER_WORD = 80.0, 12.0, 1.35
"""Word pieces of a typical passage (MS MARCO's mean) and query, where the length allows them."""
PADDING = 2.0
"""A training batch is as long as its longest text: some twice the mean."""
STEP_SECONDS, TRAINING_TO_FORWARD = 0.03, 3
"""Of a training step beside the encoder: head, SIGReg, optimiser; and of the encoder."""
CONVERTED, CHOSEN, DOCSTRINGS_SECONDS = 40_000, 500, 6.0
"""A second: passages taken in, queries whose negatives are chosen. For a library's docstrings."""
INDEXED, BM25_PAIRS, COMPILING = 21_600, 2.3e9, 6.0
"""Of BM25: passages indexed a second; query-passage pairs that a core scores a second; seconds of
the first search in a process."""
MEASURED_ROW, MEASURED_ROWS = 2.4e-3, 20_000
"""Seconds of isotropy for a row of 512 dimensions, and how many rows at most cost them."""
RUN_LINE, SCORED_LINE, FUSED_LINE = 15, 2.5e-6, 6e-6
"""Bytes on disk, gzipped, and seconds of scoring and of fusion for a line of a run file."""
PROCESS_BYTES = 1.0e9
"""What a process holds that has loaded torch."""
OUTPUTS = "outputs of"
"""How names of a frozen base's shared outputs begin."""
USABLE = 0.9
"""Of a card's memory, beside CUDA's own and what is lost to fragments."""


@dataclass(frozen=True)
class Machine:
    """What computes: a GPU, or all cores of this machine."""

    name: str
    fp32: float
    """FLOP/s of an encoder, sustained."""
    half: float
    """The same in bf16 or fp16."""
    memory: float = 0.0
    """Bytes of a GPU, infinite where nobody knows them; 0 of a processor."""
    bf16: bool = True
    """Whether half is bf16's; else it has fp16 alone."""

    def is_of(self, device: str) -> bool:
        """Whether a record's device is this one."""
        return re.search(rf"\b{re.escape(self.name)}(?!\w)", device, re.IGNORECASE) is not None


# Name, TFLOP/s in fp32 and on tensor cores, GB, bf16: peaks without sparsity, from NVIDIA's data
# sheets of T4, V100 SXM2 16 GB, A100 SXM 40 GB, L4 and H100 SXM. That some 60 % and 35 % of the
# peaks are sustained was not measured.
GPUS = {
    name.lower(): Machine(name, fp32 * 0.6e12, half * 0.35e12, memory * 1e9, bf16=bf16)
    for name, fp32, half, memory, bf16 in (
        *(("T4", 8.1, 65, 16, False), ("V100", 15.7, 125, 16, False)),
        *(("A100", 19.5, 312, 40, True), ("L4", 30.3, 121, 24, True), ("H100", 67, 989, 80, True)),
    )
}


def machine_of(gpu: str | None, device: str = "auto") -> Machine:
    """A GPU by its short name; without one what this machine computes on, asked of the system.

    Of a card here that is not known 30 TFLOP/s are guessed.

    Raises:
        RagcunError: there are no figures of such a GPU.
    """
    if gpu is not None:
        if gpu in GPUS:
            return GPUS[gpu]
        said = f"there are no figures of a GPU '{gpu}', only of {', '.join(GPUS)}"
        raise RagcunError(said, hint="--gpu t4")
    if device.startswith("cuda") or (device == "auto" and Path("/dev/nvidia0").exists()):
        cards = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        model = re.search(r"Model:\s*(.+)", "".join(map(Path.read_text, cards)))
        name = "GPU" if model is None else model[1].strip()
        known = (card for card in GPUS.values() if card.is_of(name))
        return next(known, Machine(name, 3e13, 3e13, math.inf))
    flops = CORE_FLOPS * (os.cpu_count() or 1)
    return Machine(all_cores(), flops, flops)


@dataclass(frozen=True)
class Shape:
    """A transformer, as far as its cost goes."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    vocabulary: int = 30_527

    @property
    def matrices(self) -> int:
        """Weights of all layers: four of attention, two of the feed-forward network."""
        return self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)

    @property
    def parameters(self) -> int:
        """With those of the embeddings, which are looked up and not multiplied."""
        return self.matrices + self.vocabulary * self.hidden

    def forward(self, texts: float, length: float) -> float:
        """FLOPs of so many texts of one length in word pieces.

        Two for each weight of the layers, and 4 * length * hidden a layer for queries by keys and
        weights by values (Kaplan et al., arXiv:2001.08361, table 1).
        """
        return texts * length * (2 * self.matrices + 4 * self.layers * length * self.hidden)

    def activations(self, length: float, *, layers: float, half: bool) -> float:
        """Bytes that so many layers keep of one text for the backward pass.

        length * hidden * (34 + 5 heads * length / hidden) in 16 bits, twice that in fp32
        (Korthikanti et al., arXiv:2205.05198, equation 1).
        """
        a_token = 34 + 5 * self.heads * length / self.hidden
        return length * self.hidden * layers * a_token * (1 if half else 2)


# Of the bases that profiles name, for before they are here; of others a base-sized one.
BASE_SIZE, SMALL, TINY = Shape(12, 768, 3072, 12), Shape(6, 384, 1536, 12), Shape(2, 32, 64, 2, 300)
SHAPES = {"sentence-transformers/all-MiniLM-L6-v2": SMALL, "ragcun/tiny": TINY}
_CONFIG = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")


def shape_of(config: Mapping[str, Any] | None, base: str) -> Shape:
    """From a ``config.json`` in BERT's words; else what is known of a base, or one of its size."""
    sizes = [(config or {}).get(key) for key in (*_CONFIG, "vocab_size")]
    found = [size for size in sizes if isinstance(size, int) and size > 0]
    return Shape(*found) if len(found) == len(sizes) else SHAPES.get(base, BASE_SIZE)


@dataclass(frozen=True)
class Workload:
    """What a stage has to do and to hold, whatever the machine."""

    flops: float = 0.0
    """Of the encoder, in its precision."""
    precision: str = "fp32"
    products: float = 0.0
    """FLOPs of exact search, in fp32."""
    seconds: float = 0.0
    """Of what no GPU helps with."""
    download_bytes: float = 0.0
    disk_bytes: float = 0.0
    """That it leaves."""
    draft_bytes: float = 0.0
    """Beside them while it runs."""
    ram_bytes: float = PROCESS_BYTES
    held_bytes: float = 0.0
    """Memory of the device that it computes on."""
    rows: int = 0
    """Encoded at once in training, and what of that memory each of them takes."""
    row_bytes: float = 0.0
    base: str = ""
    """The encoder, or what else stages of one pace have in common."""
    shared: Mapping[str, Workload] = field(default_factory=dict)
    """What the first stage that needs it does for all, by name: the outputs of a frozen base for
    one data set, an index, weights to download."""

    def __add__(self, other: Workload) -> Workload:
        """The work of both, one after the other, held as this one holds it."""
        names = ("flops", "products", "seconds", "download_bytes", "disk_bytes")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return replace(self, shared={**self.shared, **other.shared}, **sums)

    def time(self, machine: Machine) -> float:
        """Seconds on a machine at the rates that are guessed."""
        rate = machine.fp32 if self.precision == "fp32" else machine.half
        computed = self.flops / rate + self.products / machine.fp32
        return computed + self.seconds + self.download_bytes / DOWNLOAD_RATE

    def advice(self, machine: Machine) -> str:
        """What has to be set for it on a machine; nothing where all is well."""
        room, said = machine.memory * USABLE, []
        if self.precision == "bf16" and not machine.bf16:
            said.append("fp16: no bf16 there: --set training.precision=fp16")
        if 0 < room < self.held_bytes and self.rows:
            most = int((room - self.held_bytes) / self.row_bytes) + self.rows - 1
            size = f"--set training.mini_batch_size={most}" if most > 0 else "not even one row"
            said.append(f"does not fit: {size}")
        return "; ".join(said)


def training_memory(
    shape: Shape, trainable: float, length: int, texts: int, *, half: bool, checkpointing: bool
) -> tuple[float, float]:
    """Bytes that a training holds on its device whatever its batch, and for each row of it.

    Weights, gradients and AdamW's two moments in fp32: 4 bytes for each parameter, and 12 for each
    that is trained (Rajbhandari et al., arXiv:1910.02054, section 3.1, without fp16 copies). Then
    activations of a row's texts at their full length, as such a batch may come. A frozen base keeps
    those of one layer; checkpointing keeps every layer's input and one layer's activations.
    """
    one = checkpointing or trainable < shape.parameters
    a_text = shape.activations(length, layers=1 if one else shape.layers, half=half)
    inputs = length * shape.hidden * shape.layers * (2 if half else 4) * checkpointing
    return 4 * shape.parameters + 12 * trainable, texts * (a_text + inputs)


def bm25(*, queries: float, passages: float, name: str) -> Workload:
    """To search a data set on all cores by an index, which is built once."""
    seconds = COMPILING + queries * passages / (BM25_PAIRS * (os.cpu_count() or 1))
    index = Workload(seconds=passages / INDEXED, disk_bytes=350 * passages)
    shared = {f"BM25 index of {name}": index}
    return Workload(seconds=seconds, ram_bytes=0.9e9 + 490 * passages, base="bm25", shared=shared)


def duration(seconds: float) -> str:
    """``about 3 min``, to one or two digits: it is a guess."""
    if seconds < 60:
        return "under a minute"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"about {seconds / 3600:.0f} h"
    return f"about {seconds / 86_400:.0f} days"
