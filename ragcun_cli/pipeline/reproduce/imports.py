"""What `data import` takes in: sets as they are, and pairs made of passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.pipeline.data import sources
from ragcun_cli.pipeline.data.proxy.settings import (
    ROUND_TRIP_BASE,
    ROUND_TRIP_LENGTH,
    PairSettings,
)
from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.place import Place
from ragcun_cli.pipeline.report.table import one_line
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.pipeline.stages.task import Action, Details
from ragcun_cli.spec.addresses import without_home
from ragcun_cli.spec.errors import DataError
from ragcun_cli.spec.profile import EncoderConfig, RunProfile

if TYPE_CHECKING:
    from ragcun_cli.pipeline.data.sets.beir import Qrels


@dataclass(frozen=True)
class Importing(PairSettings):
    """The options of `data import`, by their names."""

    base: str = ROUND_TRIP_BASE
    max_seq_length: int = ROUND_TRIP_LENGTH
    round_trip: bool = True
    licence: str | None = None
    """Of the data, as the person declares it."""

    @property
    def words(self) -> list[object]:
        """Those that differ from their defaults, as they are typed."""
        words: list[object] = []
        for one in fields(self):
            value, option = getattr(self, one.name), one.name.replace("_", "-")
            if value is False:
                words.append(f"--no-{option}")
            elif value != one.default:
                words += [f"--{option}", value]
        return words


def import_action(source: Path, name: str, how: Importing, place: Place) -> Action:
    """Take in a folder in BEIR layout, a table, or passages to make pairs of.

    Raises:
        DataError: options do not go together, or do nothing.
    """
    plain = ("--test-queries", "--dev-queries", "--columns", "--licence")
    options = {word for word in map(str, how.words) if word.startswith("--")}
    licence = None if how.licence is None else one_line(how.licence)
    wrong = ""
    if not how.makes_pairs and (idle := ", ".join(sorted(options.difference(plain)))):
        wrong = f"{idle}: of pairs, and neither --pairs nor --queries is there"
    elif how.pairs and how.queries:
        wrong = "queries are made by --pairs or come in --queries, not both"
    elif licence == "":
        wrong = "--licence is empty"
    if wrong:
        raise DataError(wrong, hint="ragcun data import --help")
    if how.makes_pairs and sources.find(name) is not None:
        raise DataError(f"'{name}' is the name of a public set", hint="--name my-corpus")
    declared = {"licence": licence} if licence else {}

    def action(draft: Path, progress: Progress) -> Details:
        if how.makes_pairs:
            return _make_pairs(source, draft, how, place, progress) | declared
        from ragcun_cli.pipeline.data.bring.imports import take_in

        held_out = {"test": how.test_queries or 0, "dev": how.dev_queries or 0}
        more: Any = {"held_out": held_out, "columns": how.columns, "progress": progress}
        return take_in(source, place.workspace.dataset(name), draft, **more) | declared

    return action


def _make_pairs(
    source: Path, draft: Path, how: Importing, place: Place, progress: Progress
) -> dict[str, Any]:
    from ragcun_cli.pipeline.data.proxy.build import make_pairs

    for file in filter(None, (source, how.queries)):
        if not file.exists():
            raise DataError(f"{file} is missing", hint="ragcun data import --help")
    if not how.round_trip:
        return make_pairs(source, draft, how, keep=None, progress=progress)
    config = EncoderConfig(base=how.base, max_seq_length=how.max_seq_length)
    place.fetch_encoder(config)  # or say now that it cannot be found

    def keep(
        folder: Path, queries: Mapping[str, str], qrels: Qrels
    ) -> tuple[set[str], dict[str, Any]]:
        """As `reproduce` has the base evaluated later, so that both share outputs that are kept."""
        from ragcun_cli.pipeline.data.sets.corpus import Corpus
        from ragcun_cli.pipeline.encoders.look import cut_count
        from ragcun_cli.pipeline.search.judged import JudgedSet
        from ragcun_cli.pipeline.search.round_trip import WITHIN, found_again

        run = Run(RunProfile(name="round-trip", encoder=config), None, "untouched", place.workspace)
        model = place.load(run, progress)
        asked = JudgedSet("round-trip", Corpus.open(folder), queries, qrels)
        kept, of = found_again(model, asked, progress=progress), len(queries)
        progress.note(
            f"round trip: {config.base} finds the passages of {len(kept):,} of {of:,} queries "
            f"within {WITHIN} ({len(kept) / of:.1%}); the other {of - len(kept):,} leave training, "
            "dev and test alike"
        )
        with progress.bar("count word pieces", total=len(asked.corpus), unit="texts") as step:
            cut = cut_count(model, asked.corpus.texts, advance=step)
        encoder = {"base": without_home(config.base), "max_seq_length": config.max_seq_length}
        trip = {"within": WITHIN, "pairs": of, "kept": len(kept)}
        return kept, {"round_trip": encoder | trip, "cut": encoder | {"passages": cut}}

    return make_pairs(source, draft, how, keep=keep, progress=progress)
