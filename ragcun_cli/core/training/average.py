"""Weights between a start and what training made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

_T = TypeVar("_T")


class WithStart:
    """A model whose kept weights are part start, part trained.

    Wortsman et al. 2022 (arXiv:2109.01903): such weights keep more of what the start does well
    outside of the training data.
    """

    def __init__(self, model: nn.Module, share: float) -> None:
        """Remember the weights as they are now.

        Args:
            model: before its first step.
            share: of the start in what is kept, in [0, 1); at 0 nothing is remembered.
        """
        self._model, self._share = model, share
        self._start = self._copies() if share else {}

    def kept(self, use: Callable[[nn.Module], _T]) -> _T:
        """What ``use`` makes of the model with the weights that are kept; training's come back."""
        if not self._start:
            return use(self._model)
        trained = self._copies()
        self._set({n: torch.lerp(trained[n], self._start[n], self._share) for n in trained})
        try:
            return use(self._model)
        finally:
            self._set(trained)

    def _copies(self) -> dict[str, Tensor]:
        trained = self._model.named_parameters()
        return {name: one.detach().clone() for name, one in trained if one.requires_grad}

    def _set(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, one in self._model.named_parameters():
                if name in values:
                    one.copy_(values[name])
