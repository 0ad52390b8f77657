"""What the benchmarks share: an encoder with its head, texts of a given length, and how to time."""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from ragcun_cli.core.model import build_encoder
from ragcun_cli.core.objective.terms import ObjectiveSettings
from ragcun_cli.core.training.fit import TrainerSettings, train_encoder
from ragcun_cli.pipeline.encoders.find import fetch_encoder, load_encoder
from ragcun_cli.pipeline.place import open_workspace
from ragcun_cli.spec.profile import EncoderConfig

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
WORDS = ["time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world"]
WORDS += ["school", "state", "family"]

OBJECTIVE = ObjectiveSettings(
    contrastive="euclidean",
    scale=20.0,
    symmetric=False,
    combination="sum",
    regulariser="sigreg",
    lambda_isotropy=1.0,
    lambda_reg=0.1,
    slices=1024,
    knots=17,
    t_max=3.0,
    scaled_by_batch=True,
    pooled=False,
)
SETTINGS = TrainerSettings(
    epochs=100,
    max_steps=10,
    batch_size=64,
    mini_batch_size=None,
    group_by_length=False,
    gradient_accumulation_steps=1,
    warmup_steps=1,
    max_grad_norm=1.0,
    base_learning_rate=1e-5,
    projection_learning_rate=5e-4,
    precision="fp32",
    gradient_checkpointing=False,
    compile=False,
    save_interval=100,
    resume_minutes=60.0,
    logging_steps=50,
    report_to="none",
    run_name="benchmark",
    alarms=False,
    seed=1,
    device="cpu",
)


def base(name: str = MINILM, *, tokens: int, device: str) -> SentenceTransformer:
    config = EncoderConfig(base=name, max_seq_length=tokens)
    return load_encoder(fetch_encoder(config, open_workspace(None)), config, device=device)


def with_head(encoder: SentenceTransformer, *, dropout: float = 0.1) -> SentenceTransformer:
    """The encoder under a linear start of width 512."""
    torch.manual_seed(0)
    start = encoder.encode([text(row, 12) for row in range(64)], convert_to_tensor=True).cpu()
    return build_encoder(
        encoder, output_dim=512, dropout=dropout, similarity="euclidean", linear_start=start
    )


def text(row: int, tokens: int) -> str:
    """Another text for each row, of one word piece a word, two for the ends left out."""
    digits = [WORDS[(row // 14**place) % 14] for place in range(6)]
    filler = [WORDS[(row * 7 + place * (1 + row % 5)) % 14] for place in range(max(0, tokens - 8))]
    return " ".join(digits + filler)


def rows(count: int, *, tokens: int, negatives: int = 1, uneven: bool = False) -> Dataset:
    """Texts of so many tokens; uneven ones have any number up to it."""
    columns = ["query", "positive", *(f"negative_{n + 1}" for n in range(negatives))]
    table = {}
    for place, name in enumerate(columns):
        numbers = [row * 4 + place for row in range(count)]
        lengths = [tokens - number * 37 % (tokens - 10) if uneven else tokens for number in numbers]
        table[name] = [text(n, length) for n, length in zip(numbers, lengths, strict=True)]
    return Dataset.from_dict(table)


def fit(
    model: SentenceTransformer,
    data: Dataset,
    settings: TrainerSettings,
    *,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[float]:
    """Train a model with its head in place by ragcun's trainer; the losses that were logged."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = train_encoder(
            model,
            data,
            objective=OBJECTIVE,
            settings=settings,
            head_modules=(len(model) - 3, len(model) - 1),
            folder=Path(folder),
            save=lambda folder: None,
            on_step=on_step,
        )
    return [entry["loss"] for entry in outcome.log]


class StepTimes(TrainerCallback):
    """When each optimiser step ended; the pace is that after the first few."""

    def __init__(self, device: str = "cpu") -> None:
        self.ends: list[float] = []
        self._device = device

    def __call__(self, step: int) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self(state.global_step)

    def seconds_a_step(self, skipped: int = 2) -> float:
        """Median over the steps after the first few."""
        steps = [b - a for a, b in zip(self.ends[skipped:], self.ends[skipped + 1 :], strict=False)]
        return statistics.median(steps)


def median_seconds(action: Callable[[], object], *, times: int, device: str = "cpu") -> float:
    def once() -> float:
        started = time.perf_counter()
        action()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    return statistics.median(once() for _ in range(times))


def machine(device: str) -> str:
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
        name = f"{model or platform.processor()}, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"
