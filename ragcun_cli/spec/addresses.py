"""Texts as they may be shown and kept: without what may be secret, or private, in them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Any

_ADDRESS = re.compile(r"([\w+.-]+://|(?<!\S)//|(?<=url: ))\S+?(?=[]'\")>.,:;]*(\s|$))")
"""Where a text has one; ``url: /path?query`` is how urllib3 speaks of it."""

_USERINFO = re.compile(r"//(?![\w.-]+(:\d*)?[/?#])\S*@")
"""Up to the last @, as passwords may be written in any way, but where a plain host comes first."""

_VALUE = re.compile(r"(?<=[?&#])([^=&]*=)?[^&]+")


def shown(text: str) -> str:
    """The text with ``***`` for userinfo, values of a query and fragment of each of its addresses.

    ``https://me:word@host/file?token=abc`` becomes ``https://***@host/file?token=***``.
    """
    return _ADDRESS.sub(_hidden, text)


SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")
"""Variables of the environment whose values are nobody else's business."""

_SECRET = re.compile(
    r"\bhf_\w{4,}|(?i:(?<=token[= ])|(?<=password[= ]))[^\s']+"
    r"|(?<![^\s'=])[^\s'=/@]*:[^\s'/@]+(?=@)"
)
"""Tokens of the Hub, what follows those words, and userinfo of an address without its beginning."""


def without_secrets(command: str) -> str:
    """What was typed, with ``***`` for what may be secret in it."""
    text = shown(command)
    for secret in filter(None, map(os.environ.get, SECRETS)):
        text = text.replace(secret, "***")
    return _SECRET.sub("***", text)


def without_home(value: Any) -> Any:  # noqa: ANN401
    """A JSON value whose texts have ``~`` for the home folder of whoever runs this."""
    if isinstance(value, Mapping):
        return {key: without_home(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_home(one) for one in value]
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    homes = [re.escape(one) for one in (home, os.path.realpath(home)) if len(one) > 1]
    if not isinstance(value, str) or not homes:
        return value
    return re.sub(rf"(?<![\w.~-])({'|'.join(homes)})(?![\w.-])", "~", value)


def _hidden(address: re.Match[str]) -> str:
    bare = _USERINFO.sub("//***@", address[0])
    return _VALUE.sub(lambda value: (value[1] or "") + "***", bare)


def file_address(folder: str, name: str) -> str:
    """Address of a file in a folder; the folder's query, such as a token, goes behind the name."""
    address = re.sub(r"\s", "%20", folder if "//" in folder else f"//{folder}")
    path = re.split("[?#]", address, maxsplit=1)[0]
    return f"{path.rstrip('/')}/{name}{address[len(path) :]}"


class HidingRecord(logging.LogRecord):
    """What a library logs, such as the address that it asks again."""

    def getMessage(self) -> str:
        """As it may be shown."""
        return shown(super().getMessage())
