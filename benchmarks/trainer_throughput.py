"""Training steps a second beside a plain SentenceTransformerTrainer.

    python benchmarks/trainer_throughput.py [cpu|cuda] [STEPS] [swap]

The same MiniLM with head, rows, order, precision and batch; on one side contrastive + SIGReg +
variance by ragcun's trainer, on the other MultipleNegativesRankingLoss, then the cached one beside
GradCache. Both train at once and take turns, a whole step each, loading its batch among it, so that
a machine that slows down slows both; the ratio is of the medians over all steps. With `swap` the
plain one begins.
"""

import statistics
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from setting import SETTINGS, base, fit, machine, rows, with_head
from transformers import TrainerCallback

from ragcun_cli.core.training.fit import training_arguments

TOKENS, WARM_UP = 64, 3


class Turns(TrainerCallback):
    """Lets one of two trainers run at a time, and times its steps."""

    lock = threading.Condition()
    whose = 0

    def __init__(self, number: int, device: str) -> None:
        self.seconds: list[float] = []
        self._number, self._device = number, device
        self._started = 0.0

    def __call__(self, step: int) -> None:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._started)
        self.hand_over()
        self.wait()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self(state.global_step)

    def hand_over(self) -> None:
        with Turns.lock:
            Turns.whose = 1 - self._number
            Turns.lock.notify_all()

    def wait(self) -> None:
        with Turns.lock:
            Turns.lock.wait_for(lambda: Turns.whose == self._number, timeout=600)
        self._started = time.perf_counter()


def ours(model, data, settings, turns: Turns) -> None:
    fit(model, data, settings, on_step=turns)


def plain(model, data, settings, turns: Turns) -> None:
    size = settings.mini_batch_size
    loss = (
        MultipleNegativesRankingLoss(model)
        if size is None
        else CachedMultipleNegativesRankingLoss(model, mini_batch_size=size)
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(
            settings, steps=settings.max_steps, head_modules=(), folder=Path(folder)
        )
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[turns]
        )
        trainer.add_model_card_callback = lambda *args: None
        trainer.train()


def compare(name: str, data, settings, *, swap: bool) -> None:
    sides = [Turns(int(swap), settings.device), Turns(int(not swap), settings.device)]
    Turns.whose = 0
    models = [with_head(base(tokens=TOKENS, device=settings.device)) for _ in sides]

    def run(train, turns: Turns, model) -> None:
        turns.wait()
        try:
            train(model, data, settings, turns)
        finally:
            turns.hand_over()

    threads = [
        threading.Thread(target=run, args=arguments)
        for arguments in zip((ours, plain), sides, models, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mine, theirs = (statistics.median(turns.seconds[WARM_UP:]) for turns in sides)
    steps = min(len(turns.seconds) for turns in sides) - WARM_UP
    print(
        f"{name}: ragcun {settings.batch_size / mine:.1f} rows/s, plain "
        f"{settings.batch_size / theirs:.1f} rows/s, throughput ratio {theirs / mine:.3f} "
        f"({steps} steps each, in turns)",
        flush=True,
    )


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    gpu = device.startswith("cuda")
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60 if gpu else 18
    print(machine(device))
    settings = replace(
        SETTINGS,
        device=device,
        precision="bf16" if gpu else "fp32",
        batch_size=64 if gpu else 16,
        max_steps=steps,
    )
    data = rows(4096 if gpu else 1024, tokens=TOKENS)
    swap = sys.argv[-1] == "swap"
    compare(f"batch {settings.batch_size}", data, settings, swap=swap)
    cached = replace(settings, batch_size=512 if gpu else 16, mini_batch_size=64 if gpu else 4)
    name = f"batch {cached.batch_size} in parts of {cached.mini_batch_size}"
    compare(name, data, cached, swap=swap)


if __name__ == "__main__":
    main()
