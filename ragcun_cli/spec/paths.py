"""The only module that knows where a file lives. Names only: nothing here creates or reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ragcun_cli.spec.errors import WorkspaceError

MANIFEST = "manifest.json"

CACHE_GB = 20.0
"""Gigabytes of outputs of frozen bases that a workspace keeps, at most."""


@dataclass(frozen=True)
class Workspace:
    """A folder of runs, the data they rest on and the reports made of them."""

    root: Path
    data: Path
    """Data sets, encoders and nothing else; may be shared and read-only."""

    def dataset(self, name: str) -> Path:
        """Folder of one data set."""
        return self.data / "datasets" / dataset_folder(name)

    @property
    def datasets(self) -> Path:
        """All data sets."""
        return self.data / "datasets"

    @property
    def downloads(self) -> Path:
        """Archives that are on their way, or were not unpacked to the end."""
        return self.data / "downloads"

    @property
    def caches(self) -> tuple[Path, Path]:
        """Folders of files that are made again where they are missing: its own, the data's."""
        return self.root / "cache", self.data / "cache"

    def encoder(self, name: str) -> Path:
        """Folder of an encoder that ragcun made itself."""
        return self.data / "encoders" / name

    def docstrings(self, library: str, version: str) -> Path:
        """All docstring pairs of one version of one library."""
        return self.caches[1] / "pydocs" / f"{library}-{version}.jsonl"

    @property
    def base_outputs(self) -> Path:
        """What frozen bases made of texts."""
        return self.caches[0] / "base-outputs"

    def embeddings(self, digest: str) -> Path:
        """Embeddings of a corpus; the digest is of all that they depend on."""
        return self.caches[0] / "embeddings" / digest[:16]

    def lexical_index(self, digest: str) -> Path:
        """BM25 index of a corpus; the digest is of all that it depends on."""
        return self.caches[0] / "bm25" / digest[:16]

    def negatives(self, dataset: str, digest: str, seed: int) -> Path:
        """Folder of the negatives mined for one seed."""
        return self.root / "negatives" / dataset / digest[:8] / f"seed-{seed}"

    @property
    def runs(self) -> Path:
        """All runs."""
        return self.root / "runs"

    def run(self, experiment: str, digest: str, seed: int | None) -> Path:
        """Folder of one run; one that nothing was trained for has no seed."""
        folder = self.runs / experiment / digest[:8]
        return folder if seed is None else folder / f"seed-{seed}"

    @property
    def attempts(self) -> Path:
        """File with a line for each time that a stage ran."""
        return self.root / "attempts.jsonl"

    @property
    def logs(self) -> Path:
        """What runs said that were commands of their own."""
        return self.root / "logs"

    @property
    def reports(self) -> Path:
        """The reports of all plans."""
        return self.root / "reports"

    @property
    def last_report(self) -> Path:
        """File that names the folder of the plan that was reproduced last."""
        return self.reports / "last"

    def report(self, name: str) -> Path:
        """Folder of the tables of one plan."""
        return self.reports / name


@dataclass(frozen=True)
class OutputsFolder:
    """Where outputs of frozen bases are kept, and which base is meant."""

    folder: Path
    encoder: Mapping[str, str]
    """Digests of the base."""
    most_bytes: float
    """Of the folder, of all bases together."""


def dataset_folder(name: str) -> str:
    """A data set's name as a folder has it: `mteb:Some.v2/en` lies in `mteb-some-v2--en`.

    Other names are their folders' names.
    """
    kind, colon, task = name.partition(":")
    if not colon:
        return name
    spelled = task.lower().replace("/", "--").replace(".", "-").replace("+", "p")
    return f"{kind}-{re.sub('[^a-z0-9_-]', lambda found: f'x{ord(found[0]):x}', spelled)}"


# Files of a data set, and of BEIR's layout, which has CORPUS in the place of the passages' folder.
QUERIES = "queries.jsonl"
QRELS = "qrels"
PASSAGES_FOLDER = "passages"
PASSAGES = f"{PASSAGES_FOLDER}/passages.arrow"
CORPUS_RECORD = f"{PASSAGES_FOLDER}/corpus.json"
LENDER = f"{PASSAGES_FOLDER}/lender.json"
ROWS = f"{PASSAGES_FOLDER}/rows.npy"
CORPUS = "corpus.jsonl"

# Files of a folder of negatives.
NEGATIVES = "negatives.jsonl"
MINING_SUMMARY = "summary.json"
MINING_DETAILS = "details.jsonl"
DEV_NEGATIVES = "dev_negatives.jsonl"
DEV_MINING_DETAILS = "dev_details.jsonl"
DENSE_SEARCH = "dense"
"""In the draft alone."""

# Files of a run.
RUN = "run.json"
MODEL = "model"
REFERENCE = "reference.json"
TRAINING_LOG = "training_log.jsonl"
CHECKPOINTS = "checkpoints"
SELECTION = "selection.json"
TRACKER = "tensorboard"
EVALUATIONS = "eval"
METRICS_FILE = "metrics.json"
PER_QUERY = "per_query.jsonl"
SCORES = "scores.npz"
"""The same scores as columns, and those of smaller forms of the embeddings."""
RUN_FILES = "runs"
"""Of an evaluation: its TREC run files."""
QUERY_SCALE = "query_scale.json"
SHARDS = "shards"
MTEB = "mteb"
"""Of an evaluation: its scores in mteb's layout."""
ISOTROPY = "isotropy.json"
WHAT_IF = "what_if.json"
MODEL_META = "model_meta.json"

# Files of a report.
FIGURES = "figures"
CARDS = "cards"
PLAN_FILE = "plan.json"
"""The plan that it is of."""


def run_file(stem: str, variant: str = "") -> Path:
    """The TREC run of a data set, or of one of its parts, under the folder of its evaluation."""
    return Path(RUN_FILES) / (f"{stem}.{variant}.trec.gz" if variant else f"{stem}.trec.gz")


def shard_file(dataset: str, index: int, count: int) -> str:
    """What one shard of a search found, under the folder of its run; the first has index 1."""
    return f"{SHARDS}/{dataset}/{index}-of-{count}.npz"


def mteb_folder(model: str, revision: str) -> str:
    """Folder of a model's results in mteb's layout."""
    return f"{model.replace('/', '__').replace(' ', '_')}/{revision.replace('/', '_')}"


def path_of(named: str) -> Path:
    """A path as a person names it, ``~`` and ``~user`` spelled out.

    Raises:
        WorkspaceError: there is no such user.
    """
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise WorkspaceError(
            f"{named} is in the home of a user that is not known here", hint="a path without ~"
        ) from error
