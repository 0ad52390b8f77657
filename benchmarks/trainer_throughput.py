"""Training steps a second beside a plain SentenceTransformerTrainer.

    python benchmarks/trainer_throughput.py [cpu|cuda] [ROUNDS]

The same MiniLM with head, rows, order, precision and batch; on one side contrastive + SIGReg +
variance by ragcun's trainer, on the other MultipleNegativesRankingLoss, then the cached one beside
GradCache. Alternating runs; the ratio is the median of the rounds' ratios.
"""

import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from setting import OBJECTIVE, SETTINGS, StepTimes, base, machine, rows, with_head

from ragcun_cli.core.training import train_encoder, training_arguments

TOKENS = 64


def ours(data, settings) -> float:
    times = StepTimes(settings.device)
    model = with_head(base(tokens=TOKENS, device=settings.device))
    with tempfile.TemporaryDirectory() as folder:
        train_encoder(
            model,
            data,
            objective=OBJECTIVE,
            settings=settings,
            head_modules=(len(model) - 3, len(model) - 1),
            folder=Path(folder),
            save=lambda folder: None,
            on_step=times,
        )
    return times.seconds_a_step()


def plain(data, settings) -> float:
    times = StepTimes(settings.device)
    model = with_head(base(tokens=TOKENS, device=settings.device))
    loss = (
        MultipleNegativesRankingLoss(model)
        if settings.mini_batch_size is None
        else CachedMultipleNegativesRankingLoss(model, mini_batch_size=settings.mini_batch_size)
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(
            settings, steps=settings.max_steps, head_modules=(), folder=Path(folder)
        )
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[times]
        ).train()
    return times.seconds_a_step()


def compare(name: str, data, settings, rounds: int) -> None:
    pairs = [(ours(data, settings), plain(data, settings)) for _ in range(rounds)]
    ratio = statistics.median(theirs / mine for mine, theirs in pairs)
    mine, theirs = (settings.batch_size / statistics.median(p[i] for p in pairs) for i in (0, 1))
    ratios = ", ".join(f"{b / a:.3f}" for a, b in pairs)
    print(
        f"{name}: ragcun {mine:.1f} rows/s, plain {theirs:.1f} rows/s, throughput ratio "
        f"{ratio:.3f} ({ratios})",
        flush=True,
    )


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    gpu = device.startswith("cuda")
    print(machine(device))
    settings = replace(
        SETTINGS,
        device=device,
        precision="bf16" if gpu else "fp32",
        batch_size=64 if gpu else 16,
        max_steps=60 if gpu else 10,
    )
    data = rows(4096 if gpu else 256, tokens=TOKENS)
    compare(f"batch {settings.batch_size}", data, settings, rounds)
    cached = replace(settings, batch_size=512 if gpu else 32, mini_batch_size=64 if gpu else 8)
    cached = replace(cached, max_steps=20 if gpu else 7)
    compare(f"batch {cached.batch_size} in parts of {cached.mini_batch_size}", data, cached, rounds)


if __name__ == "__main__":
    main()
