"""Training the head of a frozen MiniLM on kept outputs, beside running the base at every step.

    python benchmarks/frozen_base.py [cpu|cuda] [STEPS]

128 tokens, batch 64, query, positive and two negatives, dropout 0: rows a second in the steady
state, the one-time encoding, and how far the losses part.
"""

import itertools
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from setting import SETTINGS, StepTimes, base, fit, machine, rows, with_head

from ragcun_cli.core.model import freeze
from ragcun_cli.pipeline.encoders.base_outputs import WantedTexts, keep_base, on_wanted_outputs
from ragcun_cli.pipeline.machine.progress import Silent
from ragcun_cli.spec.paths import OutputsFolder

TOKENS, BATCH, COMPARED_BATCH = 128, 64, 8


def frozen(device: str):
    model = with_head(base(tokens=TOKENS, device=device), dropout=0.0)
    freeze(list(model)[:-3])
    return model


def paced_fit(model, data, settings) -> float:
    """Rows a second in the steady state."""
    times = StepTimes(settings.device)
    fit(model, data, settings, on_step=times)
    return settings.batch_size / times.seconds_a_step()


def kept(data, folder: Path, device: str) -> tuple:
    model = frozen(device)
    outputs = OutputsFolder(folder / "kept", {}, most_bytes=1e10)
    keep_base(model, outputs, head=3, progress=Silent())
    texts = list(dict.fromkeys(itertools.chain.from_iterable(data[n] for n in data.column_names)))
    started = time.perf_counter()
    wanted = [WantedTexts.all_of(texts, prompt="", block=8192)]
    file, how = folder / f"{len(texts)}.f32", {"batch_size": 64, "precision": "fp32"}
    fitted = on_wanted_outputs(model, wanted, file, **how, label="", progress=Silent())
    return fitted, len(texts), time.perf_counter() - started


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    print(machine(device))
    settings = replace(SETTINGS, device=device, batch_size=BATCH)
    data = rows(384, tokens=TOKENS, negatives=2)
    with tempfile.TemporaryDirectory() as folder:
        model, texts, seconds = kept(data, Path(folder), device)
        print(f"{texts:,} texts through the base in {seconds:.1f} s, once", flush=True)
        ratios = []
        for _ in range(3):
            slow = paced_fit(frozen(device), data, replace(settings, max_steps=5))
            fast = paced_fit(model, data, replace(settings, max_steps=60))
            ratios.append(fast / slow)
            print(
                f"base run {slow:.1f} rows/s, looked up {fast:.0f} rows/s, ratio {fast / slow:.1f}"
            )
        print(f"median ratio {sorted(ratios)[1]:.1f}", flush=True)
        compared = replace(settings, batch_size=COMPARED_BATCH, max_steps=steps, logging_steps=1)
        uneven = rows(384, tokens=TOKENS, negatives=2, uneven=True)
        model, _, _ = kept(uneven, Path(folder), device)
        fast_losses = fit(model, uneven, compared)
        slow_losses = fit(frozen(device), uneven, compared)
    gaps = [abs(a - b) / abs(b) for a, b in zip(fast_losses, slow_losses, strict=True)]
    print(
        f"largest relative gap of the loss: {max(gaps[:20]):.1e} in 20 steps, {max(gaps):.1e} in "
        f"{steps}, at batch {COMPARED_BATCH}"
    )


if __name__ == "__main__":
    main()
