"""What is measured, and on what: the sections `[evaluation]` and `[isotropy]` of a profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ragcun_cli.spec.paths import dataset_folder
from ragcun_cli.spec.section import NAME, Section

FULL_FORM = "float32"
"""Name of the embeddings as they are, among their smaller forms."""

VARIANT = r"^(int8|binary|binary-rescored|truncate-[1-9][0-9]*)$"


def _each_once(what: str, name: Callable[[str], str] = str) -> AfterValidator:
    def checked(named: tuple[str, ...]) -> tuple[str, ...]:
        if len({*map(name, named)}) < len(named):
            raise ValueError(f"a {what} is named twice")
        return named

    return AfterValidator(checked)


Variants = Annotated[tuple[Annotated[str, Field(pattern=VARIANT)], ...], _each_once("variant")]
"""Smaller forms of embeddings, each once."""

MTEB_NAME = r"mteb:[A-Za-z0-9][A-Za-z0-9_.+-]*(/[A-Za-z0-9][A-Za-z0-9_.+-]*)?$"

TEST_NAME = rf"{NAME}|^{MTEB_NAME}"
"""Of a set to test on: `mteb:TASK` or `mteb:TASK/SUBSET` too, a retrieval task of mteb."""


class EvaluationConfig(Section):
    """What the encoder is tested on."""

    datasets: Annotated[
        tuple[Annotated[str, Field(pattern=TEST_NAME)], ...], _each_once("data set", dataset_folder)
    ] = Field((), max_length=100)
    """Data sets of the results table, in its order; `mteb:TASK` is any retrieval task of mteb."""

    depth: int = Field(1000, ge=100)
    """Passages kept for each query in the run file; metrics of deeper rankings are not measured."""

    similarity: Literal["model", "euclidean", "cosine", "dot", "scaled_euclidean"] = "model"
    """What passages are ranked by: the model's own similarity, or another one of its embeddings.
    `scaled_euclidean` is minus ||a q - d||, with a factor a fitted once for each run on queries
    that are neither trained nor tested on."""

    block_passages: int = Field(8192, ge=1)
    """Consecutive passages that are encoded together, sorted by length: the unit in which a corpus
    is read, kept, shared and searched."""

    batch_size: int = Field(64, ge=1)
    """Texts encoded at once; it moves scores in the last digits."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast precision of encoding; distances are computed in fp32 and fp64 whatever it is."""

    embeddings: Literal["fp32", "fp16"] = "fp32"
    """What embeddings of passages are rounded to before they are searched or kept on disk; `fp16`
    takes half the space of a cache."""

    variants: Variants = ()
    """Smaller forms of the embeddings to score beside them: `int8`, `binary`, `binary-rescored`,
    `truncate-128` or another number of dimensions."""


class IsotropyConfig(Section):
    """What isotropy is measured on: the test texts of the evaluation's data sets, all together.

    Which ones is chosen by the digests of set and id, so every model is measured on the same.
    """

    max_queries: int | None = Field(None, ge=100)
    """Test queries, which the plan measures on; none means all."""

    max_passages: int = Field(50_000, ge=100)
    """Passages, at most; there may be millions of them."""

    pair_queries: int = Field(2_000, ge=10)
    """Of the measured queries, those whose alignment with a relevant passage is measured; passages
    that are not among the measured ones are encoded for it."""
