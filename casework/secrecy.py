"""Credentials kept out of whatever is written down or answered: by their shape, and this process's own by their value.

Errors of other people's services quote what they were sent. Every error of ours and every log line passes here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

HIDDEN = "[secret]"
SHORTEST = 8
"""Characters below which a value is too common a word to be struck out wherever it stands."""

SHAPES = re.compile(
    r"cw_[0-9a-f]{6,64}_[\w-]{16,}"  # our API keys
    r"|\b(?:sk|rk|whsec|lsv2|ghp|xox[abp])[-_][\w*-]{8,}"  # providers' keys
    r"|(?<=[Bb]earer )[\w.~+/=-]{8,}"  # of a request that was quoted
    r"|(?<=://)[^\s/@\"'<>]*:[^\s/@\"'<>]*(?=@)"  # user:password in a URL
)

_known: set[str] = set()


def keep_secret(values: Iterable[str]) -> None:
    """Strike these out from now on, as they are and as JSON and Python write them."""
    for value in values:
        if len(value) >= SHORTEST:
            _known.update((value, json.dumps(value)[1:-1], repr(value)[1:-1]))


def redacted(text: str) -> str:
    """`text` with a mark in the place of each credential."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return SHAPES.sub(HIDDEN, text)
