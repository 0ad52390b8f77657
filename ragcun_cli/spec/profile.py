"""Run profiles: everything that changes a number of one experiment, and nothing else."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ragcun_cli.spec.paths import dataset_folder

NAME = r"^[a-z0-9][a-z0-9_-]*$"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

VARIANT = r"^(int8|binary|binary-rescored|truncate-[1-9][0-9]*)$"

MTEB_NAME = r"mteb:[A-Za-z0-9][A-Za-z0-9_.+-]*(/[A-Za-z0-9][A-Za-z0-9_.+-]*)?$"

TEST_NAME = rf"{NAME}|^{MTEB_NAME}"
"""Of a set to test on: `mteb:TASK` or `mteb:TASK/SUBSET` too, a retrieval task of mteb."""

NAMED_MODEL = "model"
"""Name of the profile that a model named on the command line is evaluated by; its description is
what was typed."""


class Section(BaseModel):
    """A frozen part of a profile. An unknown key is an error, never ignored."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


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

    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of hidden units dropped while training, between GELU and the second Linear."""


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

    output_dim: int = Field(512, ge=2)
    """Width K of the embeddings."""

    head: HeadConfig = HeadConfig()


class DataConfig(Section):
    """What the encoder is trained on."""

    train: str = Field("msmarco", pattern=NAME)
    """Data set whose train judgements become the training rows, one for each query."""

    max_train_queries: int | None = Field(None, ge=2)
    """Train on a seeded sample of this many queries; none means all."""


class MiningConfig(Section):
    """How negatives are found: hits that are not judged relevant, and random passages."""

    MARGIN: ClassVar = 3.0
    """Of sentence-transformers' MS MARCO recipe, on the logits of a cross-encoder."""

    candidates: Literal["bm25", "dense"] = "bm25"
    """Where hits are from: BM25, or exact search with a model by its own similarity, as for a
    second round with a model of the first."""

    dense_model: str | None = Field(None, min_length=1)
    """Model of dense candidates: a folder, such as `model` of a finished run, or a name that is
    looked up as `encoder.base` is. It reads texts as it was saved to."""

    dense_model_revision: str | None = Field(None, min_length=1)
    """Commit, branch or tag of it on the Hub; none means its main branch."""

    dense_model_sha256: Sha256 | None = None
    """Digest of its weight file; another file is refused."""

    method: Literal["lucene", "robertson", "atire", "bm25l", "bm25+"] = "lucene"
    """BM25 variant, by the name bm25s gives it."""

    k1: float = Field(0.9, gt=0)
    """Term-frequency saturation; 0.9 is Anserini's value for MS MARCO passages."""

    b: float = Field(0.4, ge=0, le=1)
    """Length normalisation; 0.4 is Anserini's value for MS MARCO passages."""

    stemmer: Literal["english", "none"] = "english"
    """Snowball stemmer applied to passages and queries."""

    stopwords: Literal["english", "none"] = "english"
    """Stop words left out of passages and queries."""

    depth: int = Field(100, ge=1)
    """Hits considered for each query."""

    skip_top: int = Field(0, ge=0)
    """Best hits left out, where unjudged positives hide."""

    negatives_per_query: int = Field(2, ge=1)
    """Negatives in a training row."""

    hard_share: float = Field(0.5, ge=0, le=1)
    """Share of the negatives drawn from the hits; the rest are random passages."""

    max_score_ratio: float | None = Field(None, gt=0)
    """Leave out hits whose BM25 score is this share of the positive's or more, as they may answer
    the query too; 0.95 is TopK-PercPos of NV-Retriever (arXiv:2407.15831). None leaves none out."""

    near_duplicate: float | None = Field(None, gt=0, le=1)
    """Leave out hits that share this much of their words with a relevant passage (Jaccard); those
    with all words in the same order are always left out. None leaves no others out."""

    rescore: Literal["none", "cross-encoder", "dense"] = "none"
    """Leave out hits that another model scores above the positive's score less a margin: by the
    logit of a cross-encoder, or by a dense model's own similarity."""

    rescore_model: str | None = Field(None, min_length=1)
    """Model of that score: a folder, or a name in the Hub cache or on the Hub."""

    rescore_model_revision: str | None = Field(None, min_length=1)
    """Commit, branch or tag of it on the Hub; none means its main branch."""

    rescore_model_sha256: Sha256 | None = None
    """Digest of its weight file; another file is refused."""

    rescore_margin: float = Field(MARGIN, ge=0)
    """What a hit's score has to lie below the positive's, on the model's scale: logits, minus
    distances, cosines (which need far less than the default) or dot products; 0 keeps hits that
    score as the positive does."""

    @model_validator(mode="after")
    def _models_are_named(self) -> Self:
        for key, without, name in (
            ("candidates", "bm25", "dense_model"),
            ("rescore", "none", "rescore_model"),
        ):
            chosen, model = getattr(self, key), getattr(self, name)
            if chosen != without and model is None:
                raise ValueError(f"{key} '{chosen}' needs {name}")
            if chosen == without and model is not None:
                raise ValueError(f"{name} does nothing while {key} is '{without}'")
            for pin in (f"{name}_revision", f"{name}_sha256"):
                if getattr(self, pin) is not None and model is None:
                    raise ValueError(f"{pin} does nothing without {name}")
        return self

    @model_validator(mode="after")
    def _models_do_something(self) -> Self:
        if self.rescore == "none" and self.rescore_margin != self.MARGIN:
            raise ValueError("rescore_margin does nothing while rescore is 'none'")
        if self.hard_share == 0 and (self.rescore != "none" or self.candidates == "dense"):
            raise ValueError("hard_share 0 draws no hits: candidates and rescore do nothing")
        if self.candidates == "dense" and self.max_score_ratio is not None:
            raise ValueError(
                "max_score_ratio is a share of a BM25 score, and a share of a distance means "
                "nothing: with candidates 'dense', use rescore 'dense' and rescore_margin"
            )
        return self

    @model_validator(mode="after")
    def _hits_remain(self) -> Self:
        if self.depth - self.skip_top < self.negatives_per_query:
            raise ValueError(
                f"depth {self.depth} less skip_top {self.skip_top} leaves too few hits for "
                f"negatives_per_query {self.negatives_per_query}"
            )
        return self


class SigregConfig(Section):
    """SIGReg: the Epps-Pulley test of normality on random directions (arXiv:2511.08544)."""

    slices: int = Field(1024, ge=1)
    """Random unit directions, drawn afresh at every step."""

    knots: int = Field(17, ge=3)
    """Points of the trapezoid rule on [0, t_max]; odd, as in the official library. The paper's
    grid, 17 on [-5, 5], is 9 with t_max 5."""

    t_max: float = Field(3.0, gt=0)
    """End of the integration range."""

    scaled_by_batch: bool = True
    """Multiply the statistic by the number of rows, as the official one does; without, lambda
    carries over between batch sizes."""

    pooled: bool = False
    """Test queries and positives as one sample; else each by itself, and the mean of both."""

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.knots % 2 == 0:
            raise ValueError(f"knots must be odd, got {self.knots}")
        return self


class SelectionConfig(Section):
    """How the best encoder of a training is chosen; without queries, the last one is kept."""

    queries: int = Field(0, ge=0)
    """Queries to score on, a seeded sample; 0 keeps the encoder of the last step."""

    dataset: str | None = Field(None, pattern=NAME)
    """Data set they are of; none means the training set, and msmarco-select for msmarco."""

    split: Literal["train", "dev", "test"] | None = None
    """Of its judgements; none means `train` of the training set, `dev` of another. Training rows
    with a query of the selection are left out, and a query that a test set of the plan has too is
    refused."""

    passages: int = Field(10_000, ge=10)
    """Passages to rank: those judged for the queries, and a seeded sample of the others."""

    every: int = Field(500, ge=1)
    """Steps between scores (nDCG@10)."""

    patience: int | None = Field(None, ge=1)
    """End the training after so many scores in a row without a better one."""


class TrainingConfig(Section):
    """How the encoder is fine-tuned."""

    WITHOUT_EFFECT_ON_NUMBERS: ClassVar = (
        "save_interval",
        "resume_minutes",
        "logging_steps",
        "report_to",
        "probe_texts",
    )

    freeze_base: bool = False
    """Train the head alone."""

    base_learning_rate: float = Field(1e-5, gt=0)
    """Peak AdamW step of the base encoder."""

    projection_learning_rate: float = Field(5e-4, gt=0)
    """Peak AdamW step of the projection head."""

    contrastive: Literal["euclidean", "cosine", "dot"] = "euclidean"
    """Similarity inside InfoNCE, and the one the saved model retrieves with."""

    scale: float = Field(20.0, gt=0)
    """Inverse temperature on the cosine's scale: logits are scale * cosine; for Euclidean
    -||q - d||^2 / T, T = 2 * output_dim / scale; for dot q.d / T, T = output_dim / scale."""

    symmetric: bool = False
    """Let each positive pick its query too, and take the mean of both directions."""

    combination: Literal["sum", "convex"] = "sum"
    """`sum` adds the weighted isotropy term to the contrastive one, as in the plan; `convex` takes
    (1 - lambda_isotropy) of the contrastive one, as in the LeJEPA paper."""

    lambda_isotropy: float = Field(0.0, ge=0)
    """Weight of the isotropy term; 0 leaves it out of the loss and still logs it."""

    lambda_reg: float = Field(0.0, ge=0)
    """Weight of the variance term (s - 1)^2, s the standard deviation of all entries; 0 leaves it
    out of the loss and still logs it."""

    regulariser: Literal["sigreg", "spread_out", "vicreg"] = "sigreg"
    """What the isotropy term is: SIGReg; the global orthogonal regulariser GOR; or the distance of
    mean, variance and covariance from those of N(0, I), after VICReg."""

    sigreg: SigregConfig = SigregConfig()

    selection: SelectionConfig = SelectionConfig()

    epochs: int = Field(3, ge=1)
    """Passes over the training rows."""

    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimiser steps; none means all epochs."""

    batch_size: int = Field(16, ge=2)
    """Rows of one batch, over all devices: what InfoNCE tells apart, and SIGReg's sample."""

    mini_batch_size: int | None = Field(None, ge=1)
    """Encode so many rows at once on a device by GradCache: the memory of this many rows, the loss
    of the whole batch, the time of one more forward pass. None encodes the batch at once."""

    group_by_length: bool = False
    """Batches of texts of like length: less padding, but SIGReg then sees samples that are not the
    corpus's. Parts of a batch under GradCache are sorted by length anyway."""

    gradient_accumulation_steps: int = Field(1, ge=1)
    """Batches summed before an optimiser step. InfoNCE and SIGReg still see one batch at a time;
    mini_batch_size saves memory without that loss."""

    warmup_steps: float = Field(1000, ge=0)
    """Steps of linear warm-up; below 1, a share of all steps."""

    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this norm."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast precision; losses are computed in fp32 whatever it is."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    compile: bool = False
    """Compile the model with torch.compile."""

    cache_frozen_base: bool = True
    """With a frozen base, encode each text through it once, keep the outputs on disk and train the
    head on them: the same numbers up to rounding, many times faster."""

    alarms: bool = True
    """Stop when the encoder has collapsed: in-batch accuracy at chance, embeddings along one
    direction, or SIGReg at the value of a single point, for three lines of the log in a row."""

    save_interval: int = Field(1, ge=1)
    """Epochs between checkpoints that are kept as encoders, beside the model at the end."""

    resume_minutes: float = Field(15.0, ge=0)
    """Minutes between checkpoints to resume from, written with the next line of the log; the newest
    two are kept until the training is done."""

    logging_steps: int = Field(50, ge=1)
    """Steps between lines of the training log."""

    report_to: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    """Send the training log to an experiment tracker, too; it has to be installed."""

    probe_texts: int = Field(2000, ge=0)
    """Training texts encoded before the first step to say what the isotropy term can see at this
    batch size; 0 leaves the probe out."""

    @model_validator(mode="after")
    def _whole_warmup(self) -> Self:
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            raise ValueError(
                f"warmup_steps is a whole number of steps or a share below 1, "
                f"got {self.warmup_steps}"
            )
        return self

    @model_validator(mode="after")
    def _terms_share_one(self) -> Self:
        if self.combination == "convex" and self.lambda_isotropy >= 1:
            raise ValueError(
                f"combination 'convex' leaves 1 - lambda_isotropy for the contrastive term, and "
                f"lambda_isotropy is {self.lambda_isotropy:g}; the LeJEPA paper takes 0.05"
            )
        return self

    @model_validator(mode="after")
    def _parts_of_a_batch(self) -> Self:
        if self.mini_batch_size is not None and self.mini_batch_size > self.batch_size:
            raise ValueError(
                f"mini_batch_size {self.mini_batch_size} is larger than batch_size "
                f"{self.batch_size}"
            )
        return self


class EvaluationConfig(Section):
    """What the encoder is tested on."""

    datasets: tuple[Annotated[str, Field(pattern=TEST_NAME)], ...] = Field((), max_length=100)
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

    variants: tuple[Annotated[str, Field(pattern=VARIANT)], ...] = ()
    """Smaller forms of the embeddings to score beside them: `int8`, `binary`, `binary-rescored`,
    `truncate-128` or another number of dimensions."""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        folders = [*map(dataset_folder, self.datasets)]
        for what, names in (("data set", folders), ("variant", self.variants)):
            if len(set(names)) < len(names):
                raise ValueError(f"a {what} is named twice")
        return self


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
        chosen = [self.selection_set[0]] if self.training.selection.queries else []
        return tuple(dict.fromkeys([self.data.train, *chosen, *self.evaluation.datasets]))

    @property
    def selection_set(self) -> tuple[str, str]:
        """Data set and split of the queries that the best encoder is chosen on."""
        config, train = self.training.selection, self.data.train
        name = config.dataset or ("msmarco-select" if train == "msmarco" else train)
        return name, config.split or ("train" if name == train else "dev")

    @model_validator(mode="after")
    def _values_that_would_do_nothing(self) -> Self:
        head, selection = self.encoder.head, self.training.selection
        if head.whitening > 0 and head.init == "random":
            raise ValueError("encoder.head.whitening is of the linear start; init is 'random'")
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
        name, split = self.selection_set
        tested = name in map(dataset_folder, self.evaluation.datasets) and split == "test"
        # NanoBEIR's queries are test queries of BEIR.
        if self.training.selection.queries and (tested or name.lower().startswith("nano")):
            raise ValueError(f"training.selection would choose on test queries: '{name}', {split}")
        return self


def stated(section: Section) -> dict[str, Any]:
    """The values of a section that differ from their defaults, as JSON.

    Digests are taken of this, so that a key added later, with a default that changes nothing, makes
    no finished run stale. A default that changes is a **Numbers** line and a raised
    `numbers_version`; a test holds every default in place until then.
    """
    return section.model_dump(mode="json", exclude_defaults=True)


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
