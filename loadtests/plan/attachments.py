"""Files that a scenario names: bodies, messages, CSV feeds, a CA, gRPC types. Read once.

Paths are relative to the scenario file. A file that cannot be read, is too large, or is
not what it should be is a mistake at the key that names it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from loadtests.plan.model import Feed
from loadtests.plan.protoc import compile_protos
from loadtests.plan.schema import Schema
from loadtests.plan.spec import (
    MIB,
    Attachments,
    CallSpec,
    Document,
    FeedSpec,
    GrpcSpec,
    RequestSpec,
)
from loadtests.plan.values import Mistakes, shown

MOST_BODY_BYTES: Final = 16 * MIB
MOST_FEED_BYTES: Final = 16 * MIB
MOST_CA_BYTES: Final = MIB
MOST_TYPES_BYTES: Final = 16 * MIB


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


def _read_bodies(
    folder: Path, document: Document, mistakes: Mistakes
) -> tuple[dict[int, bytes], dict[int, str]]:
    bodies: dict[int, bytes] = {}
    messages: dict[int, str] = {}
    for index, request in enumerate(document.requests):
        if isinstance(request, CallSpec) and request.message_file is not None:
            where = f"requests[{index}].message_file"
            text = read_text(folder / request.message_file, MOST_BODY_BYTES, where, mistakes)
            if text is not None:
                messages[index] = text
        elif isinstance(request, RequestSpec) and request.body_file is not None:
            where = f"requests[{index}].body_file"
            body = read_bounded(folder / request.body_file, MOST_BODY_BYTES, where, mistakes)
            if body is not None:
                bodies[index] = body
    return bodies, messages


def _read_ca(folder: Path, document: Document, mistakes: Mistakes) -> str | None:
    tls = document.target.tls
    if tls is None or tls.ca_file is None:
        return None
    where = "target.tls.ca_file"
    ca_pem = read_text(folder / tls.ca_file, MOST_CA_BYTES, where, mistakes)
    if ca_pem is not None and "-----BEGIN CERTIFICATE-----" not in ca_pem:
        mistakes.add(where, "no certificate in it", "PEM certificates")
    return ca_pem


def _read_descriptors(
    folder: Path, spec: GrpcSpec, ask: Callable[[], bytes | None] | None, mistakes: Mistakes
) -> bytes | None:
    """A descriptor set that holds together, from the one source that is named."""
    where, data = "grpc.protos", None
    given = [bool(spec.protos), spec.descriptor_set is not None, spec.reflection]
    if sum(given) != 1 or (spec.includes and not spec.protos):
        expected = "exactly one of: protos, perhaps with includes; descriptor_set; reflection"
        mistakes.add("grpc", "another set of keys", expected)
    elif spec.protos:
        data = compile_protos(folder, spec.protos, spec.includes, mistakes)
    elif spec.descriptor_set is not None:
        where = "grpc.descriptor_set"
        data = read_bounded(folder / spec.descriptor_set, MOST_TYPES_BYTES, where, mistakes)
    elif ask is None:
        mistakes.add("grpc.reflection", "true", "a target that may be asked, as check and run do")
    else:
        where, data = "grpc.reflection", ask()
    seen = spec.descriptor_set or "types"
    if data is None or mistakes.attempt(where, seen, lambda: Schema(data)) is None:
        return None
    return data


def _refuse_untyped(document: Document, mistakes: Mistakes) -> None:
    for index, request in enumerate(document.requests):
        if isinstance(request, CallSpec):
            expected = "this section, with protos, descriptor_set or reflection: "
            mistakes.add("grpc", "nothing", f"{expected}requests[{index}] calls a method")
            return


def read_attachments(
    folder: Path,
    document: Document,
    mistakes: Mistakes,
    *,
    ask: Callable[[str | None], bytes | None] | None,
) -> Attachments:
    """Everything that the document names, relative to `folder`.

    `ask` gets the types of its services from the target, verified with the CA it is given;
    None where the target may not be asked.
    """
    feeds = [_read_feed(folder, spec, index, mistakes) for index, spec in enumerate(document.feeds)]
    bodies, messages = _read_bodies(folder, document, mistakes)
    ca_pem = _read_ca(folder, document, mistakes)
    descriptors = None
    if document.grpc is None:
        _refuse_untyped(document, mistakes)
    else:
        bound = None if ask is None else partial(ask, ca_pem)
        descriptors = _read_descriptors(folder, document.grpc, bound, mistakes)
    return Attachments(
        bodies=bodies,
        messages=messages,
        feeds=tuple(feed for feed in feeds if feed is not None),
        ca_pem=ca_pem,
        descriptors=descriptors,
    )
