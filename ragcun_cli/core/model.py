"""The encoder: a base sentence-transformer and the Gaussian projection head, from stock modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, InputModule, Normalize
from sentence_transformers.sentence_transformer.modules import Dropout
from torch import Tensor, nn

from ragcun_cli.core.errors import SettingsError

HEAD_MODULES = 3
"""Of the `gaussian_head`, the last of an encoder that is trained; a saved one has no Dropout."""

_INVISIBLE = 1e-12  # of the largest variance: rounding of fp32 rows, which whitening would blow up


def random_rotation(size: int, *, seed: int) -> Tensor:
    """An orthogonal matrix from the uniform (Haar) distribution, float64.

    The Q of a Gaussian matrix, its signs such that R has a positive diagonal: without that it is
    not uniform (Mezzadri 2007, arXiv:math-ph/0609050). Drawn on the CPU by its own generator.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    gaussian = torch.randn(size, size, dtype=torch.float64, generator=generator, device="cpu")
    q, r = torch.linalg.qr(gaussian)
    rotation: Tensor = q * r.diagonal().sign()
    return rotation


def principal_directions(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Orthogonal directions along which rows vary, those of the largest variance first.

    Args:
        rows: ``(n, d)`` float64, less their mean where that is to count as no variance.

    Returns:
        ``(d, d)`` unit vectors as rows, the ``(d,)`` variances along them, and ``(d,)`` whether
        each is more than rounding of fp32.
    """
    eigenvalues, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    directions = vectors.flip(1).T
    # An eigenvector's sign is the library's choice; fix it so that every machine starts alike.
    largest = directions.abs().argmax(1, keepdim=True)
    variances = eigenvalues.flip(0).clamp(min=0)
    seen = variances > _INVISIBLE * variances[0]
    return directions * directions.gather(1, largest).sign(), variances, seen


def linear_head_weights(
    sample: Tensor,
    *,
    output_dim: int,
    centre: bool,
    whitening: float = 0.0,
    rotation_seed: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """First weight, second weight and second bias of a head that is a PCA of the base.

    GELU(x) - GELU(-x) = x, so W1 = [I; -I] and W2 = [P, -P] make Linear, GELU, Linear equal to the
    linear map P. P holds the principal directions of ``sample``, each divided by its
    ``eigenvalue ** (whitening / 2)``, scaled together so that the mean squared length of an output
    is ``output_dim``, the scale of N(0, I). Directions beyond the base's width are zero, under
    whitening also those without variance in the sample. A rotation of all K outputs spreads what
    the first directions hold over all of them: distances and cosines stay, one bit or one range a
    dimension then loses less.

    Args:
        sample: ``(n, d)`` outputs of the base.
        output_dim: K.
        centre: remove the mean: right for Euclidean ranking, which does not see it; a cosine does.
        whitening: 0 keeps the base's distances, 1 gives all directions the same variance.
        rotation_seed: of the `random_rotation` that P is multiplied by; None leaves P as it is.

    Returns:
        ``(2d, d)``, ``(K, 2d)`` and ``(K,)``, fp32.

    Raises:
        SettingsError: all rows of ``sample`` are equal.
    """
    if (sample == sample[0]).all():
        raise SettingsError("all texts that the head starts from have the same embedding")
    rows = sample.double()
    width = rows.shape[1]
    mean = rows.mean(0) if centre else torch.zeros(width, dtype=torch.float64)
    rows = rows - mean
    kept = min(output_dim, width)
    directions, variances, seen = (found[:kept] for found in principal_directions(rows))
    factors = torch.where(seen, variances, 1) ** (-whitening / 2)
    if whitening > 0:
        factors = factors * seen
    power = float((variances * factors**2).sum())
    projection = torch.zeros(output_dim, width, dtype=torch.float64)
    projection[:kept] = directions * factors[:, None] * math.sqrt(output_dim / power)
    if rotation_seed is not None:
        projection = random_rotation(output_dim, seed=rotation_seed) @ projection
    return _as_head(projection, mean)


def gaussian_head(width: int, *, output_dim: int, dropout: float) -> list[Any]:
    """Linear(d, 2d), GELU, Dropout, Linear(2d, K), unnormalised, with PyTorch's random weights."""
    return [
        Dense(width, 2 * width, activation_function=nn.GELU()),
        Dropout(dropout),
        Dense(2 * width, output_dim, activation_function=nn.Identity()),
    ]


def build_encoder(
    base: SentenceTransformer,
    *,
    output_dim: int,
    dropout: float,
    similarity: Literal["euclidean", "cosine", "dot"],
    linear_start: Tensor | None,
    whitening: float = 0.0,
    rotation_seed: int | None = None,
) -> SentenceTransformer:
    """The base with the projection head on top, as one sentence-transformer.

    Args:
        base: its modules are shared, not copied.
        output_dim: K.
        dropout: of the head.
        similarity: what the saved model retrieves with.
        linear_start: ``(n, d)`` outputs of the base for `linear_head_weights`, or None for a
            random head, drawn from torch's global generator.
        whitening: of the linear start.
        rotation_seed: of the linear start.
    """
    width = base.get_embedding_dimension()
    head = gaussian_head(width, output_dim=output_dim, dropout=dropout)
    if linear_start is not None:
        weights = linear_head_weights(
            linear_start,
            output_dim=output_dim,
            centre=similarity == "euclidean",
            whitening=whitening,
            rotation_seed=rotation_seed,
        )
        _set_head(head, *weights)
    return _assembled([*base, *head], base, similarity=similarity)


def affine_encoder(base: SentenceTransformer, matrix: Tensor, mean: Tensor) -> SentenceTransformer:
    """The base with a head that is an affine map, compared as the base is.

    Args:
        base: its modules are shared, not copied.
        matrix: ``(e, d)``.
        mean: ``(d,)``; an output is ``matrix @ (x - mean)``.
    """
    model = build_encoder(
        base,
        output_dim=len(matrix),
        dropout=0.0,
        similarity=base.similarity_fn_name,
        linear_start=None,
    )
    _set_head(list(model)[-HEAD_MODULES:], *_as_head(matrix.double(), mean.double()))
    return model


def _as_head(projection: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    identity = torch.eye(projection.shape[1], dtype=torch.float64)
    return (
        torch.cat([identity, -identity]).float(),
        torch.cat([projection, -projection], dim=1).float(),
        (-projection @ mean).float(),
    )


def _set_head(head: Sequence[Any], first: Tensor, second: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        head[0].linear.weight.copy_(first)
        head[0].linear.bias.zero_()
        head[2].linear.weight.copy_(second)
        head[2].linear.bias.copy_(bias)


def without_normalize(base: SentenceTransformer) -> SentenceTransformer:
    """The base without its own Normalize module."""
    kept = [module for module in base if not isinstance(module, Normalize)]
    return _assembled(kept, base, similarity=base.similarity_fn_name)


def without_dropout(model: SentenceTransformer) -> SentenceTransformer:
    """The model as it is saved: its modules but Dropout, which is the identity at inference.

    Servers know few kinds of modules, and where they meet another one they may leave out all.
    """
    kept = [module for module in model if not isinstance(module, Dropout)]
    if len(kept) == len(model):
        return model
    return _assembled(kept, model, similarity=model.similarity_fn_name)


def without_length(model: SentenceTransformer) -> SentenceTransformer:
    """The model with embeddings of length 1, compared by cosine."""
    return _assembled([*model, Normalize()], model, similarity="cosine")


def head_size(model: SentenceTransformer) -> int:
    """Modules of the head of a saved encoder that has one: models of earlier versions have Dropout.

    So has an encoder in training.
    """
    return HEAD_MODULES - (not isinstance(model[-2], Dropout))


def as_served(base: SentenceTransformer) -> SentenceTransformer:
    """The base with a frozen module that cuts its outputs to the dimensions that it serves."""
    width, base.truncate_dim = base.get_embedding_dimension(), None
    whole = base.get_embedding_dimension()
    if width == whole:
        return base
    cut = Dense(whole, width, bias=False, activation_function=None)
    cut.linear.weight.data = torch.eye(width, whole)
    freeze([cut])
    return _assembled([*base, cut], base, similarity=base.similarity_fn_name)


def _assembled(
    modules: list[nn.Module], base: SentenceTransformer, *, similarity: str
) -> SentenceTransformer:
    return SentenceTransformer(
        modules=modules,
        device=str(base.device),
        similarity_fn_name=similarity,
        prompts=dict(base.prompts),
        default_prompt_name=base.default_prompt_name,
    )


def freeze(modules: list[nn.Module]) -> None:
    """Keep these modules' weights, and their dropout off, also when the whole model trains."""
    for module in modules:
        module.requires_grad_(False).eval()
        module.train = lambda mode=True, kept=module: kept  # type: ignore[method-assign,misc]


LookUp = Callable[[Sequence[str], str], Tensor]
"""Texts and the prompt before them -> ``(n, d)`` outputs of a base."""


class CachedOutputs(InputModule):
    """In the place of a frozen base: looks up what the base makes of a text.

    Only ever in memory; what is saved of a model that has it is for the Trainer to resume from.
    """

    def __init__(self, look_up: LookUp | None = None) -> None:
        super().__init__()
        self._look_up = look_up

    def preprocess(
        self,
        inputs: Sequence[str],
        prompt: str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, Tensor]:
        """``(n, d)`` outputs of the base, for texts with the prompt before them."""
        assert self._look_up is not None
        return {"sentence_embedding": self._look_up(inputs, prompt or "")}

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """The features as they are."""
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Nothing: the outputs are kept elsewhere."""

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401
        """One that can look up nothing, for the Trainer to read a checkpoint with."""
        return cls()


def on_cached_outputs(
    head: Sequence[nn.Module], look_up: LookUp, *, device: str
) -> SentenceTransformer:
    """A model of these modules, shared with the one they are of, on outputs of its frozen base."""
    return SentenceTransformer(modules=[CachedOutputs(look_up), *head], device=device)


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Trainable parameters and all parameters."""
    sizes = [(p.requires_grad, p.numel()) for p in model.parameters()]
    return {
        "trainable_parameters": sum(size for trains, size in sizes if trains),
        "parameters": sum(size for _, size in sizes),
    }
