"""Files that a scenario names: bodies, CSV feeds, a CA. Read here, once, with limits.

Paths are relative to the scenario file. A file that cannot be read, is too large, or is
not what it should be is a mistake at the key that names it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Final

from loadtests.plan.model import Feed
from loadtests.plan.spec import MIB, Attachments, Document, FeedSpec
from loadtests.plan.values import Mistakes, shown

MOST_BODY_BYTES: Final = 16 * MIB
MOST_FEED_BYTES: Final = 16 * MIB
MOST_CA_BYTES: Final = MIB


def read_bounded(path: Path, limit_bytes: int, where: str, mistakes: Mistakes) -> bytes | None:
    """Bytes of a regular file of at most the limit, or None with the mistake noted."""
    try:
        if not path.is_file():
            reason = "is not a regular file" if path.exists() else "does not exist"
            mistakes.add(where, f"{shown(path.name)}, which {reason}", "a file that can be read")
            return None
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        mistakes.add(where, f"{shown(path.name)}: {reason}", "a file that can be read")
        return None
    if len(data) > limit_bytes:
        mistakes.add(where, f"more than {limit_bytes} bytes", f"at most {limit_bytes} bytes")
        return None
    return data


def read_text(path: Path, limit_bytes: int, where: str, mistakes: Mistakes) -> str | None:
    """The same as UTF-8 text, a byte order mark dropped."""
    data = read_bounded(path, limit_bytes, where, mistakes)
    if data is None:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mistakes.add(where, f"byte {error.object[error.start]:#04x} at {error.start}", "UTF-8 text")
        return None


def _parse_feed(text: str, spec: FeedSpec, where: str, mistakes: Mistakes) -> Feed | None:
    try:
        rows = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        mistakes.add(where, str(error), "CSV with a header line (RFC 4180)")
        return None
    if len(rows) < 2:  # noqa: PLR2004 - a header and a row
        mistakes.add(where, f"{len(rows)} lines", "a header line and at least one row")
        return None
    header, *body = rows
    if len(set(header)) != len(header) or not all(header):
        mistakes.add(where, f"columns {', '.join(header)}", "columns with different names")
        return None
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            mistakes.add(where, f"{len(row)} cells in row {number}", f"{len(header)} cells")
            return None
    return Feed(name=spec.name, columns=header, rows=tuple(body))


def _read_feed(folder: Path, spec: FeedSpec, index: int, mistakes: Mistakes) -> Feed | None:
    where = f"feeds[{index}].file"
    text = read_text(folder / spec.file, MOST_FEED_BYTES, where, mistakes)
    return None if text is None else _parse_feed(text, spec, where, mistakes)


def read_attachments(folder: Path, document: Document, mistakes: Mistakes) -> Attachments:
    """Everything that the document names, relative to `folder`."""
    feeds = [_read_feed(folder, spec, index, mistakes) for index, spec in enumerate(document.feeds)]
    bodies: dict[int, bytes] = {}
    for index, request in enumerate(document.requests):
        if request.body_file is None:
            continue
        where = f"requests[{index}].body_file"
        body = read_bounded(folder / request.body_file, MOST_BODY_BYTES, where, mistakes)
        if body is not None:
            bodies[index] = body
    ca_pem = None
    tls = document.target.tls
    if tls is not None and tls.ca_file is not None:
        where = "target.tls.ca_file"
        ca_pem = read_text(folder / tls.ca_file, MOST_CA_BYTES, where, mistakes)
        if ca_pem is not None and "-----BEGIN CERTIFICATE-----" not in ca_pem:
            mistakes.add(where, "no certificate in it", "PEM certificates")
    return Attachments(
        bodies=bodies, feeds=tuple(feed for feed in feeds if feed is not None), ca_pem=ca_pem
    )
