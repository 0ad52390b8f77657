"""The only module that knows where a file lives. Names only: nothing here creates or reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Workspace:
    """A folder of runs, the data they rest on and the reports made of them."""

    root: Path
    data: Path
    """Data sets, encoders and nothing else; may be shared and read-only."""

    def dataset(self, name: str) -> Path:
        """Folder of one data set."""
        return self.data / "datasets" / name

    @property
    def datasets(self) -> Path:
        """All data sets."""
        return self.data / "datasets"

    @property
    def downloads(self) -> Path:
        """Archives that are on their way, or were not unpacked to the end."""
        return self.data / "downloads"

    def encoder(self, name: str) -> Path:
        """Folder of an encoder that ragcun made itself."""
        return self.data / "encoders" / name

    def docstrings(self, library: str, version: str) -> Path:
        """All docstring pairs of one version of one library."""
        return self.data / "cache" / "pydocs" / f"{library}-{version}.jsonl"

    def base_outputs(self, digest: str) -> Path:
        """What a frozen base made of texts; the digest is of all that it depends on."""
        return self.root / "cache" / "base-outputs" / digest[:16]

    def lexical_index(self, digest: str) -> Path:
        """BM25 index of a corpus; the digest is of all that it depends on."""
        return self.root / "cache" / "bm25" / digest[:16]

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

    def report(self, name: str) -> Path:
        """Folder of the tables of one plan."""
        return self.root / "reports" / name


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
METRICS = "metrics.json"
PER_QUERY = "per_query.jsonl"
TREC_RUN = "run.trec"
ISOTROPY = "isotropy.json"

# Files of a report.
FIGURES = "figures"
