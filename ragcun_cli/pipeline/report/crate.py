"""What a capsule says of itself to machines: its RO-Crate, and the heads of its TREC runs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.manifest import Stage, StageRecord
from ragcun_cli.spec.plan import PaperPlan

_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_KINDS = {
    ".gz": "application/gzip",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".npz": "application/x-npz",
    ".toml": "application/toml",
    ".tsv": "text/tab-separated-values",
}


class Entry(NamedTuple):
    """A stage that ran, and what of it a capsule has."""

    identity: tuple[Path, str]
    label: str
    stage: Stage
    record: StageRecord
    wrote: Sequence[str]
    """Names of the capsule's files."""
    reads: Sequence[tuple[Path, str]]
    """Identities of the stages that it rests on."""


def run_head(run: Run, dataset: str, record: StageRecord, plan: PaperPlan) -> bytes:
    """How a ranking was made, in the form of ir-metadata.org, gzipped to stand before a run."""
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

    profile, about = run.profile, record.provenance
    similarity = record.details.get("similarity")
    content = {
        "tag": run.name,
        "platform": {
            "hardware": {"device": record.device, "cpu": {"model": about.get("processor")}},
            "software": {
                "libraries": {"python": [f"{k}=={v}" for k, v in record.versions.items()]},
                "retrieval toolkit": [f"ragcun=={record.versions['ragcun']}"],
            },
        },
        "research goal": {
            "description": plan.description,
            "evaluation": {
                "reported measures": sorted({"ndcg@10", *(one.metric for one in plan.contrasts)}),
                "baseline": sorted({one.against for one in plan.contrasts}),
            },
        },
        "implementation": {
            "executable": {"cmd": about.get("command")},
            "source": {"lang": "python", "commit": record.commit},
        },
        "method": {
            "automatic": True,
            "score ties": "none: each score is below the one before it",
            "retrieval": [
                {
                    "name": run.name,
                    "method": similarity if run.reference in ("bm25", "fusion") else "dense",
                    "model": profile.encoder.base if run.embeds else None,
                    "similarity": similarity,
                    "seed": run.seed,
                }
            ],
        },
        "actor": {"team": None},
        "data": {
            "test collection": {"name": dataset},
            "training data": [{"name": profile.data.train}] if run.reference is None else [],
        },
    }
    text = "".join(f"# {line}\n" for line in yaml_dump(content, sort_keys=False).splitlines())
    return gzip.compress(f"# ir_metadata.start\n{text}# ir_metadata.end\n".encode(), mtime=0)


def crate_document(
    plan: PaperPlan,
    files: Mapping[str, tuple[int, str]],
    entries: Sequence[Entry],
    versions: Sequence[str],
) -> bytes:
    """The content of `ro-crate-metadata.json`.

    Args:
        plan: that the capsule is of.
        files: name -> size and sha256.
        entries: the stages that ran.
        versions: of ragcun, that they ran under.
    """
    wrote = {entry.identity: entry.wrote for entry in entries}
    actions = [
        _action(number, entry, [name for one in entry.reads for name in wrote.get(one, ())])
        for number, entry in enumerate(entries, 1)
        if entry.wrote and entry.stage is not Stage.DATA
    ]
    software = [
        {
            "@id": f"#ragcun-{version}",
            "@type": "SoftwareApplication",
            "name": "ragcun",
            "softwareVersion": version,
            "description": "Trains, searches, scores and reports",
        }
        for version in versions
    ]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Results of {plan.name}",
        "description": plan.description or f"What the numbers of {plan.name} rest on",
        "datePublished": max(entry.record.finished for entry in entries),
        "license": {"@id": "#licence"},
        "conformsTo": {"@id": _PROFILE},
        "hasPart": [{"@id": name} for name in files],
        "mentions": [{"@id": action["@id"]} for action in actions],
    }
    graph = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": _SPECIFICATION},
        },
        root,
        {
            "@id": _PROFILE,
            "@type": "CreativeWork",
            "name": "Process Run Crate",
            "version": "0.5",
        },
        {
            "@id": "#licence",
            "@type": "CreativeWork",
            "name": "Not stated",
            "description": "Scores, ids and judgements. Those of the data sets, bases and models "
            "stay under their own licences; report.json names those of bases and training sets.",
        },
        *software,
        *actions,
        *(_file(name, *found) for name, found in files.items()),
    ]
    document = {"@context": f"{_SPECIFICATION}/context", "@graph": graph}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _action(number: int, entry: Entry, reads: Sequence[str]) -> dict[str, Any]:
    record = entry.record
    started = record.provenance.get("started")
    return {
        "@id": f"#stage-{number}",
        "@type": "CreateAction",
        "name": entry.label,
        "description": record.provenance.get("command") or f"The stage {entry.stage.value}",
        "instrument": {"@id": f"#ragcun-{record.versions['ragcun']}"},
        **({"startTime": started} if started else {}),
        "endTime": record.finished,
        "actionStatus": "http://schema.org/CompletedActionStatus",
        **({"object": [{"@id": name} for name in reads]} if reads else {}),
        "result": [{"@id": name} for name in entry.wrote],
    }


def _file(name: str, size: int, digest: str) -> dict[str, Any]:
    kind = _KINDS[Path(name).suffix]
    return {
        "@id": name,
        "@type": "File",
        "name": name,
        "contentSize": str(size),
        "encodingFormat": kind,
        "sha256": digest,
    }
