"""What `ragcun serve` works on, runs and finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ragcun_cli.pipeline.encoders.model_source import ModelSource
from ragcun_cli.pipeline.profiles.load import profile_of_model
from ragcun_cli.pipeline.reproduce.session import Choice, Session, data_set_names
from ragcun_cli.pipeline.reproduce.walk import Consent
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.errors import CheckFailedError, RagcunError
from ragcun_cli.spec.paths import MODEL, path_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ragcun_cli.pipeline.search.judged import JudgedSet
    from ragcun_cli.pipeline.serving.check import Checked
    from ragcun_cli.pipeline.serving.endpoint import Api


@dataclass(frozen=True)
class Server:
    """Where vectors come from, as it was typed: a server, or two files of a store."""

    url: str | None
    api: str
    key_env: str | None
    served_as: str | None
    vectors: Path | None
    ids: Path | None


class ServingSession(Session):
    """One `serve` command at work in one workspace."""

    _checked: Checked | None = None
    _typed = "MODEL"

    def export(
        self,
        model: str | None,
        choice: Choice,
        folder: str,
        *,
        cosine: bool,
        int8: bool,
        datasets: Sequence[str] | None,
    ) -> dict[str, Any]:
        """Write a folder that servers load; what it holds, as JSON.

        Raises:
            RagcunError: as `export_model`, or no one model is meant.
        """
        from ragcun_cli.pipeline.serving.export import cosine_cost, export_model

        names = data_set_names(datasets) or []
        if names and not cosine:
            raise RagcunError(
                "--datasets measures what --cosine costs, and --cosine is not asked for",
                hint=f"ragcun eval --model {model or 'MODEL'} --datasets {' '.join(names)}",
            )
        run, loaded = self._model(model, choice)
        found = export_model(
            loaded,
            run.label,
            path_of(folder).absolute(),
            cosine=cosine,
            int8=int8,
            force=self._consent.force,
            progress=self._progress,
        )
        tests = [test for name in names for test in self._tests(name)]
        config = run.profile.evaluation
        costs = [cosine_cost(loaded, test, config, self._progress) for test in tests]
        return found | {"cosine": cosine, "cosine_cost": costs or None}

    def check(
        self,
        model: str | None,
        choice: Choice,
        server: Server,
        datasets: Sequence[str] | None,
    ) -> Checked:
        """Hold a server or a store against a model.

        Raises:
            RagcunError: nothing could be compared.
        """
        from ragcun_cli.pipeline.serving.check import check_endpoint, check_vectors
        from ragcun_cli.pipeline.serving.endpoint import Endpoint
        from ragcun_cli.pipeline.serving.forms import LocalModel

        names = data_set_names(datasets) or []
        url, vectors, ids = server.url, server.vectors, server.ids
        if (url is None) == (vectors is None) or (vectors is None) != (ids is None):
            raise RagcunError(
                "a check needs a server, or vectors with their ids: one of both",
                hint="--url http://localhost:8080, or --vectors FILE.npy --ids FILE",
            )
        if len(names) > 1 or (vectors is not None and not names):
            raise RagcunError(
                f"a check is on one data set, and {len(names)} are named",
                hint="--datasets NAME, the set that was put into the store",
            )
        tests = [test for name in names for test in self._tests(name)]
        run, loaded = self._model(model, choice)
        local, name = LocalModel(loaded), run.label
        if url is not None:
            api = cast("Api", server.api)
            end = Endpoint(url, api, server.key_env, server.served_as)
            found = check_endpoint(local, name, end, next(iter(tests), None), self._progress)
        else:
            assert vectors is not None
            assert ids is not None
            found = check_vectors(local, name, vectors, ids, tests[0], self._progress)
        self._checked = found
        return found

    def require_equal(self) -> None:
        """Pass if what was checked may stand in the place of the model.

        Raises:
            CheckFailedError: it may not, and why.
        """
        found = self._checked
        if found is not None and not found.equal:
            raise CheckFailedError(
                f"{found.source} does not give the vectors of {found.model}: "
                f"{', '.join(found.causes)}",
                hint=_hint(found.causes, self._typed),
            )

    def _model(self, model: str | None, choice: Choice) -> tuple[Run, SentenceTransformer]:
        """The one that is named, or the one run of a profile that has a model."""
        if (model is None) == (choice.name is None):
            raise RagcunError(
                "one model is meant: a folder or a name, or a run of a profile",
                hint="MODEL, or --profile NAME --experiment NAME --seed 1",
            )
        self._typed = model or " ".join(choice.words)
        if model is not None:
            whole = path_of(model) / MODEL
            named = str(whole) if (whole / "modules.json").is_file() else model
            profile = profile_of_model(named, (), sets=choice.sets or ())
            run = Run(profile, None, "untouched", self.workspace)
        else:
            runs = [run for run in self.runs(choice) if run.reference is None]
            if len(runs) != 1:
                listed = ", ".join(run.label for run in runs[:6])
                raise RagcunError(
                    f"one run is meant, and these are {len(runs)}: {listed}",
                    hint="--experiment NAME --seed 1",
                )
            (run,) = runs
            task = self._road.trainings.task(run)
            self._bring(lambda: [task], [run], Consent(ask=self._consent.ask))
            self._runner.require_intact([task])
        source: ModelSource = replace(self._place.source(run), outputs=None)
        return run, source.load(self._progress)

    def _tests(self, name: str) -> list[JudgedSet]:
        """The judged queries of a data set, which is brought here if need be."""
        from ragcun_cli.pipeline.search.judged import read_judged_sets

        task = self._place.sets.task(name)
        self._bring(lambda: [task], (), Consent(ask=self._consent.ask))
        self._runner.require_intact([task])
        return read_judged_sets(name, task.folder)


_HINTS = {
    "base without head": "ragcun serve export {model} --onnx FOLDER, and serve that folder",
    "normalised": "the server's switch, as normalize: false of text-embeddings-inference; or a "
    "model made for it: ragcun serve export {model} --cosine --onnx FOLDER",
    "texts cut": "the server's limit of tokens, or --set encoder.max_seq_length=N here",
    "prompt": "the model's prompt before each text, once: prompt_name, or by the client",
    "pooling": "the server's --pooling",
    "order": "answers in the order of the texts, or ids in that of the vectors",
    "half": "the server in float32",
}
"""What a cause begins with -> what to do about it."""


def _hint(causes: Sequence[str], model: str) -> str:
    known = (text for start, text in _HINTS.items() for one in causes if one.startswith(start))
    return next(known, "the weights and modules that the server logs when it starts").format(
        model=model
    )
