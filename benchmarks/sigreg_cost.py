"""What SIGReg costs beside what it regularises: forward and backward, both sides, by itself.

    python benchmarks/sigreg_cost.py [cpu|cuda]

Beside a MiniLM training step (64 tokens, batch 64, query and positive) and beside the head's own
step on looked-up outputs of a frozen base (batch 512, query, positive and two negatives).
"""

import statistics
import sys
import time

import torch
from sentence_transformers.util import batch_to_device
from setting import OBJECTIVE, base, machine, median_seconds, text, with_head

from ragcun_cli.core.losses import euclidean_logits, info_nce
from ragcun_cli.core.model import gaussian_head
from ragcun_cli.core.objective.sigreg import sigreg, unit_directions

WIDTH, SLICES, ROUNDS = 512, 1024, 7


def sigreg_step(batch: int, device: str):
    sides = [torch.randn(batch, WIDTH, device=device, requires_grad=True) for _ in range(2)]
    seeds = iter(range(10**6))

    def step() -> None:
        directions = unit_directions(SLICES, WIDTH, seed=next(seeds))
        torch.stack([sigreg(side, directions) for side in sides]).mean().backward()

    return step


def model_step(batch: int, device: str):
    model = with_head(base(tokens=64, device=device)).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    columns = [
        model.preprocess([text(4 * row + place, 64) for row in range(batch)]) for place in (0, 1)
    ]
    columns = [batch_to_device(column, torch.device(device)) for column in columns]

    def step() -> None:
        queries, passages = (model(dict(column))["sentence_embedding"] for column in columns)
        info_nce(euclidean_logits(queries, passages, scale=OBJECTIVE.scale)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def head_step(batch: int, device: str):
    modules = gaussian_head(384, output_dim=WIDTH, dropout=0.1)
    head = torch.nn.Sequential(*modules).to(device).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=5e-4)
    columns = [torch.randn(batch, 384, device=device) for _ in range(4)]

    def step() -> None:
        outputs = [head({"sentence_embedding": rows})["sentence_embedding"] for rows in columns]
        logits = euclidean_logits(outputs[0], torch.cat(outputs[1:]), scale=OBJECTIVE.scale)
        info_nce(logits).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def compare(name: str, batch: int, other, device: str, *, times: int) -> None:
    ours = sigreg_step(batch, device)
    pairs = []
    for _ in range(ROUNDS):  # alternating
        pairs.append(
            (
                median_seconds(ours, times=times, device=device),
                median_seconds(other, times=times, device=device),
            )
        )
    ratio = statistics.median(a / b for a, b in pairs)
    mine, theirs = (1e3 * statistics.median(p[i] for p in pairs) for i in (0, 1))
    print(f"{name}: SIGReg {mine:.2f} ms, step {theirs:.1f} ms, ratio {ratio:.4f}", flush=True)


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    print(machine(device), time.strftime("%Y-%m-%d"))
    compare("MiniLM, 64 tokens, batch 64", 64, model_step(64, device), device, times=2)
    compare("head on kept outputs, batch 512", 512, head_step(512, device), device, times=5)
    if device.startswith("cuda"):
        compare("head on kept outputs, batch 8192", 8192, head_step(8192, device), device, times=5)


if __name__ == "__main__":
    main()
