"""Training on a GPU: pace, peak memory, model FLOP utilisation, and agreement with the CPU.

    python benchmarks/gpu.py [PEAK_TFLOPS]

bf16, 128 tokens, GradCache in parts of 256: MiniLM, and an encoder of MPNet's size with random
weights. The utilisation is of the matrix products, GradCache's second forward pass among them, over
PEAK_TFLOPS (989: dense bf16 of an H100 or H200 SXM). Without a GPU it says so, and runs the
comparisons of precision on the CPU at a small size.
"""

import sys
import tempfile
from dataclasses import replace

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from setting import OBJECTIVE, SETTINGS, StepTimes, base, fit, machine, rows, with_head
from transformers import AutoTokenizer, MPNetConfig, MPNetModel

from ragcun_cli.core.objective.terms import Batch, objective_terms

TOKENS, BATCH, PART, STEPS = 128, 2048, 256, 12


def mpnet_sized(device: str) -> SentenceTransformer:
    """12 layers of 768, MiniLM's tokenizer: the size matters here, not the words."""
    small = base(tokens=TOKENS, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        config = MPNetConfig(vocab_size=30527)
        MPNetModel(config).save_pretrained(folder)
        tokenizer: AutoTokenizer = small.tokenizer
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=TOKENS)
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    return SentenceTransformer(modules=[transformer, pooling], device=device)


def flops_a_token(model) -> float:
    """Two for each parameter of a matrix product, and the products of attention."""
    config = model[0].auto_model.config
    matrices = sum(
        p.numel()
        for name, p in model.named_parameters()
        if p.dim() == 2 and "embeddings" not in name
    )
    return 2 * matrices + 4 * config.num_hidden_layers * config.hidden_size * TOKENS


def pace(name: str, model, peak: float) -> None:
    device = "cuda"
    times = StepTimes(device)
    settings = replace(
        SETTINGS,
        device=device,
        precision="bf16",
        batch_size=BATCH,
        mini_batch_size=PART,
        max_steps=STEPS,
    )
    torch.cuda.reset_peak_memory_stats()
    fit(model, rows(2 * BATCH, tokens=TOKENS), settings, on_step=times)
    seconds = times.seconds_a_step()
    passes = 4  # forward, forward again, and a backward of two
    work = 3 * BATCH * TOKENS * flops_a_token(model) * passes
    print(
        f"{name}: {BATCH / seconds:,.0f} rows/s of three texts, peak memory "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, "
        f"{work / seconds / 1e12:.0f} TFLOP/s, utilisation {work / seconds / peak / 1e12:.0%}",
        flush=True,
    )


def embeddings(device: str, dtype=torch.float32) -> Batch:
    """A batch with squared distances of order 1,000."""
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(n, 512, generator=generator).to(device, dtype) for n in (256, 512)]
    tables[1][:256] = 0.6 * tables[0] + 0.8 * tables[1][:256]
    return Batch(*tables)


def agreement(device: str) -> None:
    """Losses of the same embeddings here and on the CPU, and after rounding to half precision."""
    for kind in ("euclidean", "cosine", "dot"):
        settings = replace(OBJECTIVE, contrastive=kind)
        there = objective_terms(embeddings("cpu"), settings=settings, slice_seed=1)[0]
        for label, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
            here = objective_terms(embeddings(device, dtype), settings=settings, slice_seed=1)[0]
            gaps = {name: abs(float(here[name] / there[name]) - 1) for name in there}
            listed = ", ".join(f"{name} {gap:.1e}" for name, gap in gaps.items())
            print(f"{kind}, {device} in {label} beside the CPU in fp32: {listed}", flush=True)


def half_precision() -> None:
    """20 steps of fp16 with its gradient scaler beside fp32, from one start."""
    losses = {}
    for precision in ("fp32", "fp16"):
        settings = replace(
            SETTINGS, device="cuda", precision=precision, max_steps=20, logging_steps=1
        )
        model = with_head(base(tokens=64, device="cuda"), dropout=0.0)
        losses[precision] = fit(model, rows(64 * 20, tokens=64), settings)
    gaps = [abs(a / b - 1) for a, b in zip(losses["fp16"], losses["fp32"], strict=True)]
    print(f"fp16 beside fp32, 20 steps: largest relative gap of the loss {max(gaps):.1e}")


def main() -> None:
    if not torch.cuda.is_available():
        print("not measured on a GPU: torch sees none")
        print(machine("cpu"))
        agreement("cpu")
        return
    peak = float(sys.argv[1]) if len(sys.argv) > 1 else 989.0
    print(machine("cuda"))
    agreement("cuda")
    half_precision()
    pace("MiniLM", with_head(base(tokens=TOKENS, device="cuda")), peak)
    pace("MPNet-sized", with_head(mpnet_sized("cuda")), peak)


if __name__ == "__main__":
    main()
