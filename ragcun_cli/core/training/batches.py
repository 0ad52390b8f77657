"""Batches of texts of like length, for those who want them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

_BATCHES_SORTED_TOGETHER = 50


class LikeLengthBatchSampler(DefaultBatchSampler):
    """Random batches whose rows are of like length, in random order.

    Each run of 50 batches is sorted by the length of its rows and cut anew. Less padding; but such
    batches are alike in more than length, and statistics of a batch, SIGReg's too, are then not
    those of the corpus.
    """

    def __init__(self, dataset: Dataset, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(dataset, **kwargs)
        texts = [c for c in dataset.column_names if c not in (self.valid_label_columns or ())]
        lengths = [[len(text) for text in dataset[column]] for column in texts]
        self._lengths = np.array(lengths).sum(0)

    def __iter__(self) -> Iterator[list[int]]:
        assert self.generator is not None
        self.generator.manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self._lengths), generator=self.generator).numpy()
        size = self.batch_size
        batches = []
        for start in range(0, len(order), size * _BATCHES_SORTED_TOGETHER):
            some = order[start : start + size * _BATCHES_SORTED_TOGETHER]
            some = some[np.argsort(self._lengths[some], kind="stable")]
            batches += [some[i : i + size] for i in range(0, len(some), size)]
        whole = [batch for batch in batches if len(batch) == size]
        for position in torch.randperm(len(whole), generator=self.generator).tolist():
            yield whole[position].tolist()

    def __len__(self) -> int:
        return len(self._lengths) // int(self.batch_size)
