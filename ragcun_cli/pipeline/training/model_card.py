"""The README of a saved model: what it is, what made it, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ragcun_cli.pipeline.encoders.find import FoundEncoder
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import write_atomically
from ragcun_cli.spec.training_config import TrainingConfig

LOADING = """\
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("{folder}")
scores = model.similarity(model.encode_query("a question"), model.encode_document(["a passage"]))"""

CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
base_model: {base}
tags: [sentence-transformers, feature-extraction, dense-retrieval, ragcun]
---

# {name}

{description}

- Base encoder: `{base}`, weights sha256 `{sha256}`
- Trained on: `{data}`, {seed}
- Embeddings: {dimensions}, compared by {similarity}
- Objective: {objective}

```python
{loading}
```

Needs sentence-transformers 5.4 or later. Its scores are in the workspace it was trained in; this
file states none.
"""


def loading_lines(folder: str) -> str:
    """The three lines of Python that load a saved model."""
    return LOADING.format(folder=folder)


def objective_line(training: TrainingConfig, weights: Mapping[str, float]) -> str:
    """The terms of the loss with their weights."""
    return (
        f"{weights['contrastive']:g} InfoNCE ({training.contrastive}, scale {training.scale:g}) "
        f"+ {weights['isotropy']:g} {training.regulariser} + {weights['variance']:g} variance"
    )


def write_model_card(
    file: Path, *, run: Run, encoder: FoundEncoder, weights: Mapping[str, float]
) -> None:
    """Write the card; it holds no path and no time, so that equal models are equal folders."""
    profile = run.profile
    training = profile.training
    gaussian = profile.encoder.head.kind == "gaussian"
    base = encoder.name if encoder.source != "local path" else Path(encoder.name).name
    card = CARD.format(
        base=base,
        name=run.name,
        description=profile.description,
        sha256=encoder.sha256,
        data=profile.data.train,
        seed="nothing; it is the start of training" if run.seed is None else f"seed {run.seed}",
        dimensions=f"{profile.encoder.output_dim}, not normalised" if gaussian else "the base's",
        similarity=training.contrastive,
        objective=objective_line(training, weights),
        loading=loading_lines("FOLDER"),
    )
    write_atomically(file, card)
