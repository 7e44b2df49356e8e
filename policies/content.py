"""What text may carry. Outsiders' text is data: cleaned, fenced, and marked when it reads like instructions."""

from __future__ import annotations

import re
import unicodedata

MAX_REQUEST_CHARS = 20_000
"""Longer requests are cut, with a mark; a person can still read the whole in the ticket."""

INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
"""Zero-width, filling, bidirectional and tag characters: they hide text from people, never from models."""

# No two repetitions of one character stand side by side: time is linear in the text, whatever it is.
_SIGNS: tuple[tuple[str, str], ...] = (
    (
        "hidden text or forged markup",
        r"<!--|</?(system|assistant|tool|instructions?)\b|\[/?(INST|SYSTEM|tool\w*|assistant)\]|<\|[a-z_]+\|>",
    ),
    (
        "a role claimed in the text",
        r"^[ \t#]*(system|assistant|developer|tool)[ \t]{0,3}(message|prompt|output|result)?[ \t]{0,3}:",
    ),
    (
        "an order to ignore rules",
        r"\b(ignore|disregard|forget|override)\b.{0,40}"
        r"\b(instructions?|rules|polic(y|ies)|prompts?|guidelines)",
    ),
    (
        "an order to ignore rules",
        r"\b(ignorier|vergiss|ignorez|ignora)\w*\b.{0,40}\b(anweisung|regel|instruction|instruccion|règle|regla)",
    ),
    (
        "a claim of approval",
        r"\b(already|pre-?)\s*(been\s*)?(approved|authori[sz]ed)\b|\bmanager\b.{0,30}\bapproved\b"
        r"|\bno approval (is )?(needed|required)",
    ),
    ("talk to the machine", r"\b(you are now|new instructions?|as an ai|language model|developer mode|jailbreak)\b"),
    (
        "a tool named in the text",
        r"\b[a-z]+_[a-z]+(_[a-z]+)*\s*\(|\b(call|use|run)\s+[a-z]+_[a-z]+|\"(tool|function)\"\s*:",
    ),
)
SIGNS = tuple((name, re.compile(pattern, re.IGNORECASE | re.MULTILINE)) for name, pattern in _SIGNS)


def clean(text: str) -> str:
    """Without invisible and control characters (line breaks and tabs stay), and cut at the limit with a mark."""
    visible = INVISIBLE.sub("", text)
    kept = "".join(c for c in visible if c in "\n\t" or unicodedata.category(c) != "Cc")
    # Cut first: normalizing a long run of accents takes quadratic time.
    shown = unicodedata.normalize("NFC", kept[:MAX_REQUEST_CHARS])
    left_out = len(kept) - MAX_REQUEST_CHARS
    return shown if left_out <= 0 else f"{shown}\n[cut here: {left_out} more characters]"


def suspicions(text: str) -> list[str]:
    """Signs that outsiders' text tries to give instructions. A hint, never the only defence."""
    found = ["invisible characters"] if INVISIBLE.search(text) else []
    found += [name for name, pattern in SIGNS if pattern.search(text)]
    return list(dict.fromkeys(found))


def fence(text: str, source: str) -> str:
    """Label outsiders' text as data for a model. The marker cannot be closed from inside."""
    inner = re.sub(r"<[\s/]*data\b", lambda m: m.group().replace("<", "‹"), clean(text), flags=re.IGNORECASE)
    return f'<data source="{source}">\n{inner}\n</data>'
