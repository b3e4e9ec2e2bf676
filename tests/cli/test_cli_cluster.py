"""Options of `headroom cluster` that cannot be: sentences and exit code 2, nothing is started."""

from __future__ import annotations

import io

import pytest

from loadtests.cli import main
from loadtests.errors import ExitCode


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--grpc-key", "node.key"], "--grpc-certificate and --grpc-key together"),
        (["--grpc-certificate", "node.crt"], "--grpc-certificate and --grpc-key together"),
        (["--rest-port", "9003", "--grpc-port", "9004"], "9003 to 9006, which REST has"),
    ],
)
def test_options_that_cannot_be_are_explained(options: list[str], expected: str) -> None:
    """Half of a certificate, and ports that both protocols would take."""
    stderr = io.StringIO()
    assert main(["cluster", *options], io.StringIO(), stderr) is ExitCode.USAGE
    assert expected in stderr.getvalue()
