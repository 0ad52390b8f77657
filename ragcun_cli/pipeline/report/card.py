"""The model card of a training, in the conventions of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.mteb_names import recorded_task, task_of
from ragcun_cli.pipeline.encoders.published import name_of_weights
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.profiles.toml_text import as_toml
from ragcun_cli.pipeline.report.contrasts import average_of, compare, difference_of
from ragcun_cli.pipeline.report.formats.markdown import as_markdown, render_markdown
from ragcun_cli.pipeline.report.licences import README, declared_by_base, licence_of_base
from ragcun_cli.pipeline.report.rows import MAIN_METRIC, ModelRow, SeedResults
from ragcun_cli.pipeline.report.table import Cell, Column, Table, WithInterval
from ragcun_cli.pipeline.report.tables.isotropy import queries_table
from ragcun_cli.pipeline.report.tables.results import measured_sets
from ragcun_cli.pipeline.stages.estimate import duration
from ragcun_cli.pipeline.stages.runner import Runner
from ragcun_cli.pipeline.training.model_card import loading_lines, objective_line
from ragcun_cli.spec.manifest import StageRecord
from ragcun_cli.spec.measuring_config import FULL_FORM
from ragcun_cli.spec.plan import PlannedContrast

_LEFT_OUT = {"participation_ratio", "isoscore", "uniformity", "sigreg", "sigreg_rescaled"}
"""Columns of isotropy that a card has no room for."""

Trained = tuple[ModelRow, SeedResults, StageRecord]
"""A training that is current: its row with all its seeds, itself, its record."""


def trained(rows: Sequence[ModelRow]) -> list[Trained]:
    """The trainings of rows that are current."""
    arms = [row for row in rows if row.run.reference is None]
    return [(row, one, one.training) for row in arms for one in row.seeds if one.training]


def write_cards(folder: Path, rows: Sequence[ModelRow], place: Place, runner: Runner) -> None:
    """Write the card of every training, and its scores as the Hub reads them, into its folder."""
    folder.mkdir()
    for model in trained(rows):
        own = folder / f"{model[1].run.name}-seed-{model[1].run.seed}"
        for name, text in card_files(model, rows, place, runner, loaded_from="FOLDER").items():
            (own / name).parent.mkdir(parents=True, exist_ok=True)
            (own / name).write_text(text, encoding="utf-8", newline="")


def card_files(
    model: Trained, rows: Sequence[ModelRow], place: Place, runner: Runner, *, loaded_from: str
) -> dict[str, str]:
    """Name -> text of the files to lay over those of a model.

    Args:
        model: that the card is of.
        rows: it is compared with its references among them.
        place: has the base and the data sets.
        runner: knows what was recorded of them.
        loaded_from: what the snippet of Python names.
    """
    from huggingface_hub import ModelCard, ModelCardData

    row, seed, training = model
    profile, encoder = seed.run.profile, training.details["encoder"]
    recorded: dict[str, Mapping[str, Any]] = {}
    for name in (profile.data.train, *seed.metrics):
        record = runner.record(place.sets.task(name))
        recorded[name] = {} if record is None else record.details
    data = training_set(profile.data.train, recorded[profile.data.train])
    declared = {"license": "unknown", "language": data["language"]}
    declared |= declared_by_base(profile.encoder, place) or {}
    licence, stated_in = licence_of_base(profile.encoder, place)
    base = name_of_weights(encoder["digests"]["sha256"])
    if encoder["source"] in ("hub", "hub cache", "offline package"):
        base = encoder["name"]
    alone = [ModelRow(row.name, (seed,))]
    for reference in ("untouched", "untouched_start"):
        folder = replace(seed.run, seed=None, reference=reference).folder
        alone += [other for other in rows if other.run.folder == folder]
    metadata = ModelCardData(
        language=declared["language"],
        license=declared["license"] or "unknown",
        license_name=declared.get("license_name"),
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "dense-retrieval", "ragcun"],
        base_model=base,
        datasets=data["on_hub"] or None,
    )
    # A model that was named by its path keeps its last name alone.
    values = as_toml(profile.model_dump(mode="json")).strip()
    card = ModelCard.from_template(
        metadata,
        template_str=files(__package__).joinpath("card.md.jinja").read_text(encoding="utf-8"),
        name=seed.run.name,
        description=as_markdown(profile.description),
        profile=profile,
        values=re.sub(r'= "[~./][^"]*/([^"/]+)"', r'= "\1"', values),
        seed=seed.run.seed,
        training=training,
        time=duration(training.details["training_seconds"]),
        objective=objective_line(profile.training, training.details["weights"]),
        settings=next((one["settings"] for one in seed.metrics.values()), {}),
        results=render_markdown([_scores_table(model, alone), _isotropy_table(alone)]),
        base=base,
        data=data,
        licence=as_markdown(licence),
        stated_in=as_markdown(stated_in),
        loading=loading_lines(loaded_from),
    )
    return {README: f"{card}\n", **_eval_results(seed, recorded)}


def _score(seeds: Sequence[SeedResults], datasets: Sequence[str]) -> Cell:
    """The mean over sets, with the interval of other queries and, of several seeds, of those."""
    row = ModelRow("", tuple(seeds))
    own = average_of(row, datasets)
    if own is not None:
        return WithInterval(own.mean, *own.interval())
    means = [found for name in datasets if (found := row.means(name))]  # of a set of one query
    return fmean(map(fmean, means)) if len(means) == len(datasets) else None


def _scores_table(model: Trained, rows: Sequence[ModelRow]) -> Table:
    """Of every set that was to be measured, and of their average."""
    every = [one for _, one, _ in trained([model[0]])]
    alone, base = rows[0], [row for row in rows[1:] if row.run.reference == "untouched"]
    shown, averaged = measured_sets([alone])
    groups = {name: [name] for name in alone.run.profile.evaluation.datasets}
    groups |= {f"Average of {len(averaged)}": averaged} if len(averaged) > 1 else {}
    body: list[tuple[Cell, ...]] = []
    for name, datasets in groups.items():
        measured = [alone.seeds[0].metrics.get(one, {"queries": None}) for one in datasets]
        counts = [one["queries"] for one in measured]
        cells = [name, None if None in counts else sum(counts), _score(alone.seeds, datasets)]
        for other in base:
            asked = PlannedContrast(arm=alone.name, against=other.name)
            found = compare(asked, (alone, other), datasets)
            difference = difference_of(found.found) if found.found else found.why
            cells += [_score(other.seeds, datasets), difference]
        body.append((*cells, *([_score(every, datasets)] if len(every) > 1 else [])))
    names = ["This model", *["Untouched base", "Difference"] * len(base)]
    names += [f"Mean of {len(every)} seeds"] if len(every) > 1 else []
    columns = [Column("dataset", "Data set"), Column("queries", "Queries")]
    columns += [Column(name, name, digits=1, scale=100) for name in names]
    similarity = alone.run.profile.evaluation.similarity.replace("_", " ")
    notes = {
        "nDCG@10 in points of exact search, with 95 % intervals. Those of this model, and of its "
        "difference to the base on the same queries, are of other queries, and blind to the noise "
        "of training; that of a mean of seeds is of other seeds, too.": True,
        f"Ranked by {similarity}, whatever the model's own is.": similarity != "model",
        "Not compared with the untouched base, which was not measured.": not base,
        f"Samples, comparable with no other scores: {', '.join(alone.seeds[0].samples)}.": bool(
            alone.seeds[0].samples
        ),
        "The average is of zero-shot sets alone.": averaged != shown,
    }
    said = tuple(note for note, holds in notes.items() if holds)
    return Table("scores", "Scores", tuple(columns), tuple(body), said)


def _isotropy_table(rows: Sequence[ModelRow]) -> Table:
    """The few measures that most people ask for."""
    whole = queries_table(rows)
    kept = [n for n, column in enumerate(whole.columns) if column.key not in _LEFT_OUT]
    body = tuple(tuple(row[n] for n in kept) for row in whole.rows)
    columns = tuple(whole.columns[n] for n in kept)
    notes = tuple(note for note in whole.notes if not note.startswith("SIGReg"))
    return replace(whole, columns=columns, rows=body, notes=notes)


def training_set(name: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a training set, by its name and by what its record remembers.

    Its description, licence, where that is stated, source, language (None where it is not known)
    and, `on_hub`, the data sets of the Hub that it is.
    """
    known = sources.find(recorded.get("sample", {}).get("of", recorded.get("from", name)))
    about = recorded.get("about", "imported") if known is None else known.description
    origin = recorded.get("origin", "imported by who trained the model")
    licence, stated_in = sources.licence_of(name, recorded)
    on_hub = [origin.partition("@")[0]] if "mteb" in recorded else []
    if isinstance(known, sources.Docstrings):
        versions = recorded.get("libraries", dict.fromkeys(known.libraries, ""))
        origin = f"docstrings of {', '.join(f'{name} {of}' for name, of in versions.items())}"
    source = sources.BEIR[known.of] if isinstance(known, sources.Derived) else known
    if isinstance(source, sources.PublishedSet):
        on_hub = sorted({repo for repo, _ in source.hub.values()})
    return {
        "description": f"`{name}`, {as_markdown(about)}",
        "licence": as_markdown(licence),
        "stated_in": as_markdown(stated_in),
        "source": as_markdown(origin),
        "language": None if known is None or isinstance(known, sources.MtebSet) else "en",
        "on_hub": on_hub,
    }


def _eval_results(seed: SeedResults, recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name -> text of files of scores, as mteb writes them: a file a task, scores in points."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

    entries: dict[str, list[EvalResultEntry]] = {}
    for name in (name for name in seed.metrics if name not in seed.samples):
        known = sources.BEIR.get(name)
        repositories = {part: repo for part, (repo, _) in known.hub.items()} if known else {}
        repositories.setdefault("", recorded[name].get("origin", "").partition("@")[0])
        for part, scores in seed.scores[name].values[FULL_FORM, MAIN_METRIC].items():
            task = recorded_task(recorded[name]) or task_of(f"{name}/{part}" if part else name)
            if task is not None and task.main_score == MAIN_METRIC.replace("@", "_at_"):
                entry = EvalResultEntry(
                    dataset_id=repositories[part],
                    task_id=f"{task.name}_{task.subset}_{task.split}",
                    value=round(100 * float(scores.mean()), 5),
                    dataset_revision=task.revision,
                    date=seed.evaluations[name].finished,
                    notes=f"{MAIN_METRIC}, exact search, measured by ragcun",
                )
                entries.setdefault(task.name, []).append(entry)
    return {
        f".eval_results/{name}.yaml": yaml_dump(eval_result_entries_to_yaml(found), sort_keys=False)
        for name, found in entries.items()
    }
