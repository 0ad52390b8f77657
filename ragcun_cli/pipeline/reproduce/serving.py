"""What `ragcun serve` works on, runs and finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcun_cli.pipeline.profiles.load import profile_of_model
from ragcun_cli.pipeline.reproduce.session import Session, data_set_names
from ragcun_cli.pipeline.reproduce.walk import Consent
from ragcun_cli.pipeline.stages.runs import Run
from ragcun_cli.spec.errors import CheckFailedError, RagcunError
from ragcun_cli.spec.paths import MODEL, path_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ragcun_cli.pipeline.search.judged import JudgedSet
    from ragcun_cli.pipeline.serving.endpoint import Api


class ServingSession(Session):
    """One `serve` command at work in one workspace."""

    _checked: dict[str, Any] | None = None

    def export(
        self, model: str, folder: str, *, cosine: bool, int8: bool, datasets: Sequence[str] | None
    ) -> dict[str, Any]:
        """Write a folder that servers load; what it holds, as JSON.

        Raises:
            RagcunError: as `export_model`, or there is nothing to measure on the data sets.
        """
        from ragcun_cli.pipeline.serving.export import cosine_cost, export_model

        names = data_set_names(datasets) or []
        if names and not cosine:
            raise RagcunError(
                "--datasets measures what --cosine costs, and --cosine is not asked for",
                hint=f"ragcun eval --model {model} --datasets {' '.join(names)}",
            )
        run, loaded = self._model(model)
        place, force = path_of(folder).absolute(), self._consent.force
        how: Any = {"cosine": cosine, "int8": int8, "force": force, "progress": self._progress}
        found = export_model(loaded, model, place, **how)
        tests = [test for name in names for test in self._tests(name)]
        config = run.profile.evaluation
        found["ndcg@10"] = {
            test.name: cosine_cost(loaded, test, config, self._progress) for test in tests
        }
        if cosine and not tests:
            again = f"ragcun serve export {model} --onnx {folder} --cosine --force --datasets NAME"
            self._progress.note(f"what cosine costs in nDCG@10 was not measured: {again}")
        return found

    def check(
        self,
        model: str,
        server: tuple[str | None, Api, str | None],
        files: tuple[Path | None, Path | None],
        *,
        datasets: Sequence[str] | None,
    ) -> dict[str, Any]:
        """Hold a server, or the vectors of a store, against a model; what was found, as JSON.

        Args:
            model: a folder or a name.
            server: its address, what it speaks, and the variable that holds its key.
            files: vectors and their ids, instead.
            datasets: to compare the ten best passages on: one, or none.

        Raises:
            RagcunError: nothing could be compared.
        """
        from ragcun_cli.pipeline.serving.check import check_endpoint, check_vectors
        from ragcun_cli.pipeline.serving.endpoint import Endpoint
        from ragcun_cli.pipeline.serving.forms import LocalModel

        names, (url, api, key_env), (vectors, ids) = data_set_names(datasets) or [], server, files
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
        local = LocalModel(self._model(model)[1])
        if vectors is not None and ids is not None:
            found = check_vectors(local, vectors, ids, tests[0], self._progress)
        else:
            test = next(iter(tests), None)
            found = check_endpoint(local, Endpoint(url or "", api, key_env), test, self._progress)
        self._checked = {"model": model} | found
        for note in found["notes"]:
            self._progress.note(note)
        return self._checked

    def require_equal(self) -> None:
        """Pass if what was checked may stand in the place of the model.

        Raises:
            CheckFailedError: it may not, and why.
        """
        found = self._checked or {}
        if causes := found.get("causes"):
            known = (hint for start, hint in _HINTS.items() for one in causes if start in one)
            hint = next(known, "the weights and modules that the server logs when it starts")
            raise CheckFailedError(
                f"{found['source']} does not give the vectors of {found['model']}: "
                f"{', '.join(causes)}",
                hint=hint.format(model=found["model"]),
            )

    def _model(self, named: str) -> tuple[Run, SentenceTransformer]:
        whole = path_of(named) / MODEL  # of a run's folder
        name = str(whole) if (whole / "modules.json").is_file() else named
        run = Run(profile_of_model(name, ()), None, "untouched", self.workspace)
        return run, self._place.load(run, self._progress)

    def _tests(self, name: str) -> list[JudgedSet]:
        from ragcun_cli.pipeline.search.judged import read_judged_sets

        task = self._place.sets.task(name)
        self._bring(lambda: [task], (), Consent(ask=self._consent.ask))
        self._runner.require_intact([task])
        return read_judged_sets(name, task.folder)


_HINTS = {
    "base without head": "ragcun serve export {model} --onnx FOLDER, and serve that folder",
    "texts cut": "the server's limit of tokens, which is to be the model's",
    "prompt": "the model's prompt before each text, once: by prompt_name, or by the client",
    "pooling": "the server's --pooling, or: ragcun serve export {model} --onnx FOLDER",
    "order": "answers in the order of the texts, and ids in that of the vectors",
    "half": "the server in float32",
    "normalised": "normalize: false where the server knows it; else: ragcun serve export {model} "
    "--cosine --onnx FOLDER",
}
"""What is in a cause -> what to do about it."""
