"""Run profiles: everything that changes a number of one experiment, and nothing else."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ragcun_cli.spec.measuring_config import EvaluationConfig, IsotropyConfig
from ragcun_cli.spec.mining_config import MiningConfig
from ragcun_cli.spec.paths import dataset_folder
from ragcun_cli.spec.section import NAME, Section, Sha256, stated
from ragcun_cli.spec.training_config import TrainingConfig

NAMED_MODEL = "model"
"""Name of the profile that a model named on the command line is evaluated by; its description is
what was typed."""


class HeadConfig(Section):
    """The Gaussian projection head: Linear(d, 2d), GELU, Dropout, Linear(2d, output_dim)."""

    kind: Literal["gaussian", "none"] = "gaussian"
    """`none` trains the base encoder as it is, at its own width."""

    init: Literal["linear", "random"] = "linear"
    """`linear` starts as a PCA of the base, so that step 0 ranks as the base does (GELU(x) -
    GELU(-x) = x); `random` is PyTorch's own initialisation."""

    init_passages: int = Field(10_000, ge=2)
    """Training passages that the linear start is a PCA of, chosen by the digest of their ids."""

    whitening: float = Field(0.0, ge=0, le=1)
    """Of the linear start: each principal direction is divided by its eigenvalue to the power
    whitening / 2, so 0 keeps the base's ranking and 1 starts with equal variances."""

    rotation: Literal["random", "none"] = "random"
    """Of the linear start: `random` turns its K outputs at random, which moves no distance and lets
    int8 and binary forms lose less; `none` leaves principal directions, largest first, which
    truncate-N is best at. A random head has none, and refuses `random`."""

    rotation_seed: int = Field(0, ge=0)
    """Which random rotation: one for all arms and training seeds."""

    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of hidden units dropped while training, between GELU and the second Linear."""

    @model_validator(mode="before")
    @classmethod
    def _a_random_head_has_no_rotation(cls, values: Any) -> Any:  # noqa: ANN401
        if not isinstance(values, dict) or values.get("init") != "random":
            return values
        if values.get("rotation") == "random":
            raise ValueError("encoder.head.rotation is of the linear start; init is 'random'")
        return values | {"rotation": "none"}


class EncoderConfig(Section):
    """The base encoder and what is put on top of it."""

    base: str = "sentence-transformers/all-mpnet-base-v2"
    """A folder, or a name that is looked up in the Hub cache, the offline package and the Hub, in
    that order."""

    revision: str | None = None
    """Commit, branch or tag on the Hub; none means its main branch."""

    sha256: Sha256 | None = None
    """Digest of the base's weight file; another file is refused."""

    max_seq_length: int | None = Field(None, ge=4)
    """Word pieces kept of a text, in mining, training and evaluation; none means the base's own."""

    normalize_base: bool = True
    """Keep the base's own Normalize module before the head."""

    output_dim: int = Field(512, ge=2, le=65_536)
    """Width K of the embeddings."""

    head: HeadConfig = HeadConfig()


class DataConfig(Section):
    """What the encoder is trained on."""

    train: str = Field("msmarco", pattern=NAME)
    """Data set whose train judgements become the training rows, one for each query."""

    max_train_queries: int | None = Field(None, ge=2)
    """Train on a seeded sample of this many queries; none means all."""


class RunProfile(Section):
    """One experiment, complete: a run is a profile and a seed."""

    name: str = Field(pattern=NAME)
    """Also the name of its folder."""

    description: str = ""
    """One line for `ragcun profile list`."""

    demonstration: bool = False
    """Say under every table that its numbers show how the tool works, and prove nothing more."""

    encoder: EncoderConfig = EncoderConfig()
    data: DataConfig = DataConfig()
    mining: MiningConfig = MiningConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    isotropy: IsotropyConfig = IsotropyConfig()

    @property
    def named_datasets(self) -> tuple[str, ...]:
        """Every data set that the experiment needs, each once."""
        chosen = [name for name, _ in self.selection_sets]
        return tuple(dict.fromkeys([self.data.train, *chosen, *self.evaluation.datasets]))

    @property
    def selection_sets(self) -> tuple[tuple[str, str], ...]:
        """Data sets and splits of the queries that the best encoder is chosen on, if it is."""
        config, train = self.training.selection, self.data.train
        named = config.dataset or ("msmarco-select" if train == "msmarco" else train)
        names = (named,) if isinstance(named, str) else named
        split = {name: config.split or ("train" if name == train else "dev") for name in names}
        return tuple(split.items()) if config.queries else ()

    @property
    def untrained(self) -> RunProfile:
        """The same with the default dropout, which only a training has."""
        head = self.encoder.head.model_copy(update={"dropout": HeadConfig().dropout})
        return self.model_copy(update={"encoder": self.encoder.model_copy(update={"head": head})})

    @property
    def selected_on(self) -> str:
        """The same for people, as `fiqa (dev) and nfcorpus (dev)`."""
        return " and ".join(f"{name} ({split})" for name, split in self.selection_sets)

    @model_validator(mode="after")
    def _values_that_would_do_nothing(self) -> Self:
        head, selection = self.encoder.head, self.training.selection
        if head.whitening > 0 and head.init == "random":
            raise ValueError("encoder.head.whitening is of the linear start; init is 'random'")
        if head.rotation_seed and head.rotation == "none":
            raise ValueError("encoder.head.rotation_seed does nothing: rotation is 'none'")
        if selection.patience is not None and not selection.queries:
            raise ValueError("training.selection.patience needs training.selection.queries")
        return self

    @model_validator(mode="after")
    def _terms_that_go_together(self) -> Self:
        training, head = self.training, self.encoder.head
        if head.kind == "none" and training.freeze_base:
            raise ValueError("training.freeze_base with encoder.head.kind 'none' trains nothing")
        if training.contrastive != "cosine" and head.kind == "none":
            raise ValueError(
                f"training.contrastive '{training.contrastive}' needs the head: its temperature "
                "assumes embeddings of squared length output_dim"
            )
        return self

    @model_validator(mode="after")
    def _selection_is_not_the_test(self) -> Self:
        for name, split in self.selection_sets:
            tested = name in map(dataset_folder, self.evaluation.datasets) and split == "test"
            # NanoBEIR's queries are test queries of BEIR.
            if tested or name.lower().startswith("nano"):
                raise ValueError(
                    f"training.selection would choose on test queries: '{name}', {split}"
                )
        return self


def model_values(profile: RunProfile) -> dict[str, Any]:
    """Everything in a profile that changes the trained model, as JSON."""
    training = stated(profile.training)
    for key in TrainingConfig.WITHOUT_EFFECT_ON_NUMBERS:
        training.pop(key, None)
    return {
        "encoder": stated(profile.encoder),
        "data": stated(profile.data),
        "mining": stated(profile.mining),
        "training": training,
    }
