"""What the manifest keeps of a target's own word on its version."""

from __future__ import annotations

import pytest

from loadtests.swarm.target import version_of


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ('{"name":"svc","version":"11.4.4","uptimeSeconds":12}', "svc 11.4.4"),
        ('{"version":"11.4.4"}', "11.4.4"),
        ('{"version":11}', '{"version":11}'),
        ("v11.4.4", "v11.4.4"),
        ('{"version":"11', '{"version":"11'),
    ],
)
def test_name_and_version_identify_the_target(answer: str, kept: str) -> None:
    """A JSON answer is cut down to what identifies the software; any other is kept as it came."""
    assert version_of(answer) == kept
