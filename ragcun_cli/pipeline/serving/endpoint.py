"""Embeddings of a server over HTTP, in OpenAI's form or text-embeddings-inference's."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

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

_SAYS = {
    401: "the key is wrong or missing",
    403: "the key may not do that",
    404: "there is no such address, or no such model",
    429: "it has too many requests",
}

_HINTS = {
    401: "--key-env NAME, the variable that holds the key",
    403: "--key-env NAME, the variable that holds a key that may",
    404: "--url with the server's own path, --api tei or openai, --served-as NAME",
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
    served_as: str | None = None
    """Name of the model in OpenAI's form; None takes the first that the server lists."""

    def embed(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        prompt_name: str | None = None,
        label: str,
        progress: Progress,
    ) -> tuple[Tensor, list[int]]:
        """``(m, d)`` fp32 vectors of the texts that the server takes, and ``m`` places of those.

        Args:
            texts: short ones first: where the first request is refused whole, so is all.
            prompt: goes before each text in OpenAI's form, which knows none.
            prompt_name: under which text-embeddings-inference knows it.
            label: of the bar.
            progress: is told.

        Raises:
            ServerError: it cannot be reached, refuses, or answers with something else.
        """
        if self.api == "openai":
            key, before = "input", prompt
            more: dict[str, Any] = {"model": self._name(), "encoding_format": "float"}
        else:
            key, before = "inputs", ""
            more = {"normalize": False, "truncate": True}
            more |= {"prompt_name": prompt_name} if prompt_name else {}

        def ask(places: Sequence[int]) -> list[list[float]]:
            body = {key: [before + texts[place] for place in places]} | more
            return self._vectors(self._asked("POST", self._address(), json=body), len(places))

        found: dict[int, list[float]] = {}
        with progress.bar(label, total=len(texts), unit="texts") as advance:
            for start in range(0, len(texts), BATCH):
                some = range(start, min(start + BATCH, len(texts)))
                try:
                    found |= zip(some, ask(some), strict=True)
                except RefusedTextsError:
                    for place in some:
                        with suppress(RefusedTextsError):
                            found |= zip([place], ask([place]), strict=True)
                    if not found:
                        raise
                advance(len(some))
        return self._checked(list(found.values())), list(found)

    def _address(self) -> str:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            bare = self.url.rpartition("//")[2] or "localhost:8080"
            raise ServerError(
                f"'{self.url}' is no address of a server", hint=f"--url http://{bare}"
            )
        base, end = self.url.rstrip("/"), "embed" if self.api == "tei" else "embeddings"
        if base.endswith(f"/{end}"):
            return base
        return f"{base}/{end}" if self.api == "tei" or base.endswith("/v1") else f"{base}/v1/{end}"

    def _name(self) -> str:
        """The model's name among those of the server; of one that lists none, any will do."""
        if self.served_as is not None:
            return self.served_as
        with suppress(ServerError, KeyError, IndexError, TypeError):
            models = f"{self._address().removesuffix('/embeddings')}/models"
            return str(self._asked("GET", models)["data"][0]["id"])
        return "default"

    def _asked(self, method: str, address: str, **body: Any) -> Any:  # noqa: ANN401
        """What the server answers, as JSON."""
        key = os.environ.get(self.key_env, "") if self.key_env else ""
        if self.key_env and not key:
            raise ServerError(
                f"--key-env names {self.key_env}, and that variable is not set",
                hint=f"export {self.key_env}=...",
            )
        headers = {"Authorization": f"Bearer {key}"} if key else {}

        def without_key(text: str) -> str:
            return text.replace(key, "***") if key else text

        try:
            with at_once():
                answer = requests.request(method, address, headers=headers, timeout=TIMEOUT, **body)
        except (requests.RequestException, UnicodeError) as error:
            slow = isinstance(error, requests.Timeout)
            why = f"no answer in {TIMEOUT[1]:.0f} seconds" if slow else _reason(error)
            raise ServerError(
                f"{address} cannot be reached: {without_key(why)}",
                hint=f"curl -i {address}, to see whether the server runs",
            ) from error
        if not answer.ok:
            status, said = answer.status_code, " ".join(without_key(answer.text).split())[:200]
            kind = RefusedTextsError if status in _TOO_LONG else ServerError
            why = _SAYS.get(status, "")
            raise kind(
                f"{address} answers HTTP {status}{why and ', '}{why}: {said or 'nothing else'}",
                hint=_HINTS.get(status, "its log, which says why"),
            )
        try:
            return answer.json()
        except ValueError as error:
            kind_of = answer.headers.get("content-type", "no type")
            raise ServerError(
                f"{address} answers with {kind_of}, which is no JSON", hint=_OTHER_API
            ) from error

    def _vectors(self, answer: Any, count: int) -> list[list[float]]:  # noqa: ANN401
        """Those of a request, in the order of its texts."""
        try:
            if self.api == "openai":
                by_index = {int(one["index"]): one["embedding"] for one in answer["data"]}
                rows = [by_index[place] for place in range(count)]
                counted = len(answer["data"])
            else:
                rows, counted = list(answer), len(answer)
            if counted == count and all(isinstance(row, list) for row in rows):
                return rows
        except (KeyError, TypeError, ValueError):
            pass
        what = f"{self.url} does not answer {count} texts with {count} vectors"
        raise ServerError(f"{what} in the form of --api {self.api}", hint=_OTHER_API)

    def _checked(self, rows: list[list[float]]) -> Tensor:
        """As a table of finite numbers."""
        widths = sorted({len(row) for row in rows})
        if len(widths) > 1 or 0 in widths:
            raise ServerError(
                f"{self.url} gives vectors of several lengths: {', '.join(map(str, widths))}",
                hint="its log, which says why",
            )
        try:
            found = torch.tensor(rows, dtype=torch.float32)
        except (TypeError, ValueError) as error:
            raise ServerError(
                f"{self.url} gives vectors that hold something else than numbers",
                hint=_NOT_FINITE,
            ) from error
        if not found.isfinite().all():
            raise ServerError(
                f"{self.url} gives vectors with numbers that are not finite", hint=_NOT_FINITE
            )
        return found


_OTHER_API = "--api tei or --api openai, whichever the server speaks, and its own address"

_NOT_FINITE = "a server in fp32: large activations overflow in fp16"


def _reason(error: BaseException) -> str:
    """What lies behind an error of requests, in its own words without addresses of objects."""
    while error.__context__ is not None and not isinstance(error, OSError | UnicodeError):
        error = error.__context__
    inner = [one for one in (error, *error.args) if isinstance(one, BaseException)]
    said = first_line(getattr(inner[-1], "reason", None) or inner[-1])
    return re.sub(r"^.*?object at 0x[0-9a-f]+>: ", "", said)
