"""What an engine says of a mistake before it ends."""

from __future__ import annotations

from loadtests.engine.process import error_frame
from loadtests.errors import Mistake, ScenarioError


def test_a_place_is_named_once() -> None:
    """A mistake at the very place that the error is about does not repeat it."""
    mistake = Mistake(where="requests.r.body", seen="${env:TOKEN}", expected="a variable")
    frame = error_frame(ScenarioError("requests.r.body", (mistake,)))
    assert (frame.where, frame.seen) == ("requests.r.body", "${env:TOKEN}")
    other = Mistake(where="feeds[0]", seen="nothing", expected="rows")
    frame = error_frame(ScenarioError("requests.r.body", (mistake, other)))
    assert frame.seen == "${env:TOKEN}; feeds[0]: nothing"
