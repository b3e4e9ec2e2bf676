"""The control channel under fire: hostile messages from an authorised key, while a run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from channel_fuzz import attack_a_run, is_unharmed

pytestmark = pytest.mark.system

SUITE_MESSAGES = 10_000
FUZZ_MESSAGES = int(os.environ.get("HEADROOM_FUZZ_MESSAGES", "1000000"))
ROUND_MESSAGES = 50_000


def test_ten_thousand_hostile_messages_change_nothing(tmp_path: Path) -> None:
    """Fuzzed, replayed, type-confused: the run goes on, exact, with its three members."""
    attacked = attack_a_run(tmp_path, messages=SUITE_MESSAGES, seed=20261126)
    is_unharmed(attacked, SUITE_MESSAGES)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_a_million_hostile_messages_change_nothing(tmp_path: Path) -> None:
    """The same at length, in rounds of other seeds."""
    for number in range(-(-FUZZ_MESSAGES // ROUND_MESSAGES)):
        attacked = attack_a_run(tmp_path / str(number), messages=ROUND_MESSAGES, seed=number)
        is_unharmed(attacked, ROUND_MESSAGES)
