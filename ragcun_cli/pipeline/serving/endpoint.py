"""Embeddings of a server over HTTP, in OpenAI's form or text-embeddings-inference's."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import requests
import torch
from torch import Tensor

from ragcun_cli.pipeline.machine.progress import Progress
from ragcun_cli.pipeline.machine.stops import at_once
from ragcun_cli.spec.errors import RagcunError, first_line

Api = Literal["openai", "tei"]

BATCH = 8
"""Texts of a request."""

TIMEOUT = (10.0, 120.0)
"""Seconds until it has to answer the call, and between two parts of an answer."""

_TOO_LONG = (400, 413, 422)
"""What servers say of a text that they do not cut."""

_KEY = "--key-env NAME, the variable that holds a key that may do this"
_LOG = "its log, which says why"
_OTHER = "--api tei or --api openai, whichever the server speaks, and its log"
_HINTS = {
    401: _KEY,
    403: _KEY,
    404: "--url with the server's own path, or the other --api",
    429: "the same command again, later",
}


class ServerError(RagcunError):
    """A server gives nothing that could be compared."""


class RefusedTextsError(ServerError):
    """A server does not take some texts."""


@dataclass(frozen=True)
class Endpoint:
    """A server of embeddings."""

    url: str
    """As it was typed: the server, its `/v1`, or the whole address of its embeddings."""
    api: Api = "openai"
    key_env: str | None = None
    """Variable that holds the key."""

    def embed(
        self, texts: Sequence[str], *, prompt: str, prompt_name: str | None, progress: Progress
    ) -> tuple[Tensor, list[int]]:
        """``(m, d)`` fp32 vectors of the texts that the server takes, and ``m`` places of those.

        Args:
            texts: short ones first: where the first request is refused whole, so is all.
            prompt: goes before each text in OpenAI's form, which knows none.
            prompt_name: under which text-embeddings-inference knows it.
            progress: is told.

        Raises:
            ServerError: it cannot be reached, refuses, or answers with something else.
        """
        key, before = "inputs", ""
        more: dict[str, Any] = {"normalize": False, "truncate": True}
        if self.api == "openai":
            key, before = "input", prompt
            more = {"model": self._model(), "encoding_format": "float"}
        elif prompt_name:
            more |= {"prompt_name": prompt_name}

        def ask(places: Sequence[int]) -> dict[int, Any]:
            body = {key: [before + texts[place] for place in places]} | more
            answer = self._asked("POST", self._address(), json=body)
            return dict(zip(places, self._rows(answer, len(places)), strict=True))

        found: dict[int, Any] = {}
        with progress.bar("texts by the server", total=len(texts), unit="texts") as advance:
            for start in range(0, len(texts), BATCH):
                some = range(start, min(start + BATCH, len(texts)))
                try:
                    found |= ask(some)
                except RefusedTextsError:
                    for place in some:
                        with suppress(RefusedTextsError):
                            found |= ask([place])
                    if not found:
                        raise
                advance(len(some))
        if len({len(row) for row in found.values()}) > 1:
            raise self._nonsense("vectors of several lengths")
        return torch.from_numpy(np.stack([*found.values()])), list(found)

    def _address(self) -> str:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            bare = self.url.rpartition("//")[2] or "localhost:8080"
            what = f"'{self.url}' is no address of a server"
            raise ServerError(what, hint=f"--url http://{bare}")
        base, end = self.url.rstrip("/"), "embed" if self.api == "tei" else "embeddings"
        if base.endswith(f"/{end}"):
            return base
        return f"{base}/{end}" if self.api == "tei" or base.endswith("/v1") else f"{base}/v1/{end}"

    def _model(self) -> str:
        """The first model that the server lists; where it lists none, any name will do."""
        with suppress(ServerError, KeyError, IndexError, TypeError):
            models = f"{self._address().removesuffix('/embeddings')}/models"
            return str(self._asked("GET", models)["data"][0]["id"])
        return "default"

    def _asked(self, method: str, address: str, **body: Any) -> Any:  # noqa: ANN401
        """What the server answers, as JSON; the key goes there and nowhere else."""
        key = os.environ.get(self.key_env, "") if self.key_env else ""
        if self.key_env and not key:
            what = f"--key-env names {self.key_env}, and that variable is not set"
            raise ServerError(what, hint=f"export {self.key_env}=...")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            with at_once():
                answer = requests.request(method, address, headers=headers, timeout=TIMEOUT, **body)
            said = answer.text
        except (requests.RequestException, UnicodeError) as error:
            slow = isinstance(error, requests.Timeout)
            why = f"no answer in {TIMEOUT[1]:g} seconds" if slow else _reason(error)
            what = f"{address} cannot be reached: {why.replace(key or chr(0), '***')}"
            raise ServerError(what, hint=f"curl -i {address}") from error
        if not answer.ok:
            status, said = answer.status_code, " ".join(said.replace(key or "\0", "***").split())
            kind = RefusedTextsError if status in _TOO_LONG else ServerError
            what = f"{address} answers HTTP {status}: {said[:200] or answer.reason}"
            hint = _HINTS.get(status, _LOG)
            if key and hint == _KEY:
                what = f"{what}: the key in {self.key_env} was refused"
                hint = f"export {self.key_env}=..., a key that may do this"
            raise kind(what, hint=hint)
        try:
            return answer.json()
        except ValueError as error:
            kind_of = answer.headers.get("content-type", "a page")
            begins = " ".join(said.replace(key or "\0", "***").split())[:60]
            raise self._nonsense(f"{kind_of}, which is no JSON: '{begins}'", _OTHER) from error

    def _rows(self, answer: Any, count: int) -> np.ndarray:  # noqa: ANN401
        """``(count, d)`` fp32, in the order of the texts of a request."""
        other = isinstance(answer, list) == (self.api == "openai")
        what, hint = f"no {count} vectors of numbers for {count} texts", _OTHER if other else _LOG
        try:
            if self.api == "openai":
                by_index = {int(one["index"]): one["embedding"] for one in answer["data"]}
                answer = [by_index.pop(place) for place in range(count)] + [*by_index]
            with np.errstate(over="ignore"):
                rows = np.array([[*map(float, row)] for row in answer], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense(what, hint) from error
        if rows.ndim != 2 or len(rows) != count or rows.size == 0:
            raise self._nonsense(what, hint)
        if not np.isfinite(rows).all():
            raise self._nonsense("numbers that are not finite, as fp16 makes of large activations")
        return rows

    def _nonsense(self, what: str, hint: str = _LOG) -> ServerError:
        return ServerError(f"{self.url} gives {what}", hint=hint)


def _reason(error: BaseException) -> str:
    """What lies behind an error of requests, without addresses of objects."""
    inner = next((one for one in error.args if isinstance(one, BaseException)), error)
    said = first_line(getattr(inner, "reason", None) or inner)
    return re.sub(r"^.*?object at 0x[0-9a-f]+>: ", "", said)
