"""Addresses as they may be shown and kept: without what may be secret in them."""

from __future__ import annotations

import logging
import re

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
