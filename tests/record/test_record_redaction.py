"""Secrets and active content do not reach a file."""

from __future__ import annotations

import pytest

from loadtests.record.redaction import (
    LONGEST_TEXT,
    REDACTED,
    clean_message,
    redact,
    redact_command,
    secrets_of,
)

CANARY = "eyJhbGciOi.J9canary-x_1"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"authorization:{CANARY}",
        f'Authorization = "Bearer {CANARY}"',
        f'{{"Authorization": "Basic {CANARY}"}}',
        f'headers = [["Authorization", "Bearer {CANARY}"]]',
        f"Proxy-Authorization: Digest {CANARY}",
        f"https://example.org/?access_token={CANARY}&x=1",
        f"password={CANARY}",
        f"passwd : '{CANARY}'",
        f'client_secret = "{CANARY}"',
        f"api-key={CANARY}",
        f"Set-Cookie: {CANARY}",
        f"server said: bearer {CANARY} is expired",
        f"http://user:{CANARY}@example.org/",
    ],
)
def test_what_looks_like_a_credential_goes(text: str) -> None:
    """The usual spellings of a credential are replaced, the words around them stay."""
    cleaned = redact(text, ())
    assert CANARY not in cleaned
    assert REDACTED in cleaned
    assert cleaned[:3] == text[:3]


@pytest.mark.parametrize(
    "text",
    [
        'Authorization = "Bearer ${env:TOKEN}"',
        "token = ${env:TOKEN}",
        'path = "/api/v11/blockchain/transactions?limit=10&offset=0"',
        "http://127.0.0.1:9003/api/v11/info",
        'objectives = ["p95 < 200 ms", "error_ratio < 0.1 %"]',
        "the token bucket was empty; authorization is required",
    ],
)
def test_ordinary_text_and_placeholders_stay(text: str) -> None:
    """A scenario must stay readable: placeholders, addresses and prose are not touched."""
    assert redact(text, ()) == text


def test_values_of_placeholders_go_wherever_they_appear() -> None:
    """The value that `${env:NAME}` has here is replaced even where nothing announces it."""
    environment = {"TOKEN": "s3cr3t-value", "OTHER": "unrelated", "SHORT": "on"}
    secrets = secrets_of("a ${env:TOKEN} b ${env:SHORT} c ${env:ABSENT}", environment)
    assert secrets == ("s3cr3t-value",)
    assert redact("echo: s3cr3t-value unrelated on", secrets) == f"echo: {REDACTED} unrelated on"


def test_a_secret_inside_another_is_replaced_whole() -> None:
    """The longest value goes first, so that no rest of it stays behind."""
    secrets = secrets_of("${env:A} ${env:B}", {"A": "abcd", "B": "abcd-efgh"})
    assert redact("abcd-efgh", secrets) == REDACTED


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("run", "--token", CANARY), ("run", "--token", REDACTED)),
        (("run", f"--token={CANARY}"), ("run", f"--token={REDACTED}")),
        (("run", "--api-key", CANARY), ("run", "--api-key", REDACTED)),
        (("run", "-H", f"Authorization: Bearer {CANARY}"),
         ("run", "-H", f"Authorization: Bearer {REDACTED}")),
        (("run", "a.toml", "--scale", "0.01"), ("run", "a.toml", "--scale", "0.01")),
    ],
)  # fmt: skip
def test_command_lines_are_cleaned_word_by_word(
    command: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """Option and value may be one word or two."""
    assert redact_command(command, ()) == expected


def test_messages_from_outside_are_harmless_and_bounded() -> None:
    """Control characters and direction overrides are replaced; length is bounded."""
    cleaned = clean_message("\x1b[2J\x00a\u202eb\tc\n" + "x" * 5000, ())
    assert not set("\x1b\x00\u202e") & set(cleaned)
    assert "a\N{REPLACEMENT CHARACTER}b\tc\n" in cleaned
    assert len(cleaned) == LONGEST_TEXT + 1
