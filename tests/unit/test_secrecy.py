"""What counts as a credential in a text, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casework import secrecy
from casework.errors import ToolFailed
from casework.secrecy import HIDDEN, keep_secret, redacted
from casework.settings import Settings


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By value; only by shape."""
    monkeypatch.setattr(secrecy, "_known", set())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key cw_0123456789ab_abcdefghijklmnopqrstuvwxyz was refused", f"key {HIDDEN} was refused"),
        ("Incorrect API key provided: sk-proj-abcdefgh1234.", f"Incorrect API key provided: {HIDDEN}."),
        ("{'Authorization': 'Bearer abc.def-123456'}", f"{{'Authorization': 'Bearer {HIDDEN}'}}"),
        ("postgresql://me:pass%40word@db:5432/x is away", f"postgresql://{HIDDEN}@db:5432/x is away"),
        ("https://user:pw@example.com/a", f"https://{HIDDEN}@example.com/a"),
    ],
)
def test_a_credential_is_known_by_its_shape(nothing_known: None, text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "order O-5042 of C-1042: 15.00 EUR refunded as re_3PqT8sLk",
        "see https://example.com/orders?at=12:30 and write to ada@example.com",
        "approval 3f0a5c8e3f0a5c8e3f0a5c8e3f0a5c8e, cw_ and sk- alone; the bearer of bad news",
        "postgresql:///casework?host=/tmp/socket",
    ],
)
def test_what_is_no_credential_is_left_alone(nothing_known: None, text: str) -> None:
    assert redacted(text) == text


def test_this_process_s_own_are_known_by_value_however_they_are_written(nothing_known: None) -> None:
    keep_secret(['pass"word\nof mine', "short"])
    assert redacted('plain pass"word\nof mine') == f"plain {HIDDEN}"
    assert redacted('{"said": "pass\\"word\\nof mine"}') == f'{{"said": "{HIDDEN}"}}'
    assert redacted("short words stay") == "short words stay"


def test_every_secret_setting_is_one_of_them() -> None:
    given = {"DATABASE_URL": "postgresql://me:pass%40word@db/x", "key_pepper": "p1", "OPENAI_API_KEY": "k1"}
    settings = Settings.model_validate({**given, "ANTHROPIC_API_KEY": "k2", "payments_key": "k3"})
    assert {"pass@word", "p1", "k1", "k2", "k3"} <= {*settings.secrets()}
    assert "other-word" in settings.secrets("postgresql://me:other-word@db/x")


def test_no_error_of_ours_quotes_one(nothing_known: None) -> None:
    failed = ToolFailed("the provider refused: Invalid API Key provided: sk_live_abcdefgh12345678")
    assert str(failed) == failed.message == f"the provider refused: Invalid API Key provided: {HIDDEN}"


@given(st.text())
def test_it_takes_any_text_and_a_second_time_changes_nothing(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)
