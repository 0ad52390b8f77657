"""Ask one mirror for a file, or for the rest of it."""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3.exceptions

_PIECE_BYTES = 1 << 20
_LONGEST_DATE = 60
_PASSING_STATUS = (429, 500, 502, 503, 504)
_HOPELESS = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
)


class RefusedError(Exception):
    """The mirror will not give the file, however often it is asked."""


class PassingError(Exception):
    """The next attempt may do better, after the seconds that the mirror asked for, if it did."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class DamagedError(Exception):
    """What has come so far is of no use."""


@dataclass(frozen=True)
class Answer:
    """A file as a mirror gives it, from some byte on."""

    start: int
    """Where in the file the pieces begin: 0, or where the partial file ends."""

    total: int | None
    """Size of the whole file."""

    validator: str | None
    """Names the version of the file, as If-Range wants it."""

    pieces: Iterator[bytes]


def ask(
    url: str, *, held: int, validator: str | None, stall_seconds: float
) -> AbstractContextManager[Answer]:
    """What the mirror gives to someone who holds the first bytes of that version of the file.

    Raises, here or while the pieces are read:
        RefusedError: there is no point in asking again.
        PassingError: there may be.
        DamagedError: the bytes held are not the beginning of the mirror's file.
    """
    try:
        scheme, _, path, *_ = urlsplit(url)
    except ValueError as error:
        raise RefusedError(f"no address: {error}") from error
    if scheme == "file":
        return _ask_disk(Path(url2pathname(path)))
    if scheme in ("http", "https"):
        return _ask_server(url, held, validator, stall_seconds)
    raise RefusedError("not an http, https or file address")


@contextmanager
def _ask_disk(path: Path) -> Iterator[Answer]:
    try:
        stream = path.open("rb") if path.is_file() else None
    except (OSError, ValueError) as error:  # not to be read, a name that is too long
        raise RefusedError(_cause(error)) from error
    if stream is None:
        raise RefusedError("there is no such file")
    with stream:
        size = os.fstat(stream.fileno()).st_size
        yield Answer(0, size, None, iter(partial(stream.read, _PIECE_BYTES), b""))


@contextmanager
def _ask_server(url: str, held: int, validator: str | None, stall: float) -> Iterator[Answer]:
    headers = {"Accept-Encoding": "identity"}
    if held:
        headers["Range"] = f"bytes={held}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=stall)
    except _HOPELESS as error:
        raise RefusedError(_cause(error)) from error
    except requests.Timeout as error:
        raise PassingError(f"no answer for {stall:g} s") from error
    except requests.RequestException as error:
        if not held and "NameResolutionError" in repr(error):  # else: it was known a while ago
            raise RefusedError(_cause(error)) from error
        raise PassingError(_cause(error)) from error
    except (ValueError, urllib3.exceptions.LocationValueError) as error:  # of a redirect
        raise RefusedError(f"it leads to no address: {_cause(error)}") from error
    with response:
        yield _answer(response, held, stall)


def _answer(response: requests.Response, held: int, stall: float) -> Answer:
    status, headers = response.status_code, response.headers
    said = f"it answered {status} {response.reason or '':.80}".rstrip()
    range_given = headers.get("Content-Range", "")
    if status in _PASSING_STATUS:
        raise PassingError(said, wait=_seconds(headers.get("Retry-After")))
    if status == 416 and held:
        if range_given.strip() == f"bytes */{held}":
            return Answer(held, held, None, iter(()))
        raise DamagedError(f"{said} to going on from byte {held:,}")
    if status != 200 and not (status == 206 and held):
        raise RefusedError(said)
    if "html" in headers.get("Content-Type", "").lower():
        raise RefusedError("it gave an HTML page instead of the file")
    start, total = 0, _size(headers.get("Content-Length"))
    if status == 206:
        match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", range_given)
        if match is None or match[1] != str(held):
            raise DamagedError(f"asked to go on from byte {held:,}, it sent {range_given!r:.80}")
        start, total = held, None if match[2] == "*" else _size(match[2])
    tag = headers.get("ETag", "W/")
    validator = headers.get("Last-Modified") if tag.startswith("W/") else tag
    return Answer(start, total, validator, _pieces(response, stall))


def _pieces(response: requests.Response, stall: float) -> Iterator[bytes]:
    """The body as it comes over the wire, in pieces as they come."""
    try:
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=False):
            yield piece
    except urllib3.exceptions.ReadTimeoutError as error:
        raise PassingError(f"nothing came for {stall:g} s") from error
    except urllib3.exceptions.HTTPError as error:
        if isinstance(error.__cause__, http.client.IncompleteRead):
            raise PassingError("the connection was closed before the end") from error
        raise PassingError(_cause(error)) from error


def _size(text: str | None) -> int | None:
    """In bytes; None where none is given."""
    if text is None or re.fullmatch("[0-9]{1,18}", text):
        return None if text is None else int(text)
    raise RefusedError(f"it offers {text!r:.40} bytes, which is no size of a file")


def _seconds(retry_after: str | None) -> float | None:
    """From now to the moment that is given as seconds or as an HTTP date; None where it is none."""
    said = retry_after or ""
    if re.fullmatch("[0-9]{1,18}", said):
        return int(said)
    try:
        date = parsedate_tz(said) if len(said) < _LONGEST_DATE else None
        return None if date is None else max(0.0, mktime_tz(date) - time.time())
    except (ValueError, OverflowError):  # the year 99999
        return None


def _cause(error: BaseException) -> str:
    """What lies at the bottom of an error, such as "Connection refused"."""
    while below := error.__cause__ or error.__context__:
        error = below
    return getattr(error, "strerror", None) or str(error)[:200] or type(error).__name__
