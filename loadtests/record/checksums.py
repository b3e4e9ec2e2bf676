"""`SHA256SUMS`: what it promises about the files of an archive, and whether they keep it.

It lists every file of a complete archive, `run.json` included, and later what was made of
it (`verdict.json`, the report). `sha256sum --check` reads it. A file that is missing, cut or
one bit off is named. It finds damage and careless edits; who rewrites the list itself is not
found, since nothing here is signed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from loadtests.errors import HarnessError
from loadtests.record.directory import (
    CHECKSUMS_FILE,
    MANIFEST_FILE,
    READ_BACK_FILE,
    REPORT_FILES,
    VERDICT_FILE,
    is_partial,
)
from loadtests.record.files import read_file, replace_file, sha256_of, size_of
from loadtests.record.manifest import Manifest

_LINE: Final = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9._-]+)")
_SOUND: Final = "an undamaged archive"
_SMALL_BYTES: Final = 256 * 1024  # a millisecond to hash
_OUTSIDE_MANIFEST: Final = frozenset({MANIFEST_FILE, READ_BACK_FILE, VERDICT_FILE, *REPORT_FILES})


def checksums_text(manifest: Manifest, manifest_sha256: str) -> bytes:
    """Lines of `SHA256SUMS`: every file of a complete archive but itself."""
    return _text({**manifest.checksums, MANIFEST_FILE: manifest_sha256})


def _text(sums: dict[str, str]) -> bytes:
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode("ascii")


def read_checksums(path: Path) -> dict[str, str]:
    """File name -> SHA-256 as `SHA256SUMS` of a run directory says; HarnessError on damage."""
    *lines, rest = read_file(path / CHECKSUMS_FILE).decode("ascii", "replace").split("\n")
    found = [_LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in found if match is not None}
    if rest or len(sums) != len(lines):
        raise HarnessError(where=str(path / CHECKSUMS_FILE), seen="a damaged list", expected=_SOUND)
    return sums


def add_file(path: Path, name: str, data: bytes) -> None:
    """Put a file that was made after the run into its directory, and list it.

    Of a partial run such files are the only ones listed. One that was listed is taken off the
    list before it changes: whoever is killed in between leaves no file at all for readers, and
    never one with the checksum of another.
    """
    has_sums = not is_partial(path) or (path / CHECKSUMS_FILE).exists()
    sums = read_checksums(path) if has_sums else {}
    if sums.pop(name, None) is not None:
        replace_file(path / CHECKSUMS_FILE, _text(sums))
    replace_file(path / name, data)
    sums[name] = hashlib.sha256(data).hexdigest()
    replace_file(path / CHECKSUMS_FILE, _text(sums))


def check_manifest(path: Path, manifest: Manifest, data: bytes) -> dict[str, str]:
    """`SHA256SUMS`, which must be the one written with this manifest; HarnessError otherwise."""
    sums = read_checksums(path)
    own = hashlib.sha256(data).hexdigest()
    if sums.get(MANIFEST_FILE) != own:
        raise HarnessError(
            where=str(path / MANIFEST_FILE),
            seen=f"SHA-256 {own}",
            expected=f"the one in {CHECKSUMS_FILE}",
        )
    listed = {name: sums[name] for name in sums if name not in _OUTSIDE_MANIFEST}
    if listed != manifest.checksums:
        raise HarnessError(
            where=str(path / CHECKSUMS_FILE),
            seen=f"other files or checksums than {MANIFEST_FILE} says",
            expected=_SOUND,
        )
    return sums


def check_files(path: Path, manifest: Manifest, required: Collection[str]) -> None:
    """HarnessError naming the first file, listed or required, that is missing or changed."""
    for name in sorted({*manifest.checksums, *required}):
        if sha256_of(path / name) != manifest.checksums.get(name):
            raise HarnessError(
                where=str(path / name),
                seen=f"{size_of(path / name)} bytes with another checksum than "
                f"{MANIFEST_FILE} says",
                expected=_SOUND,
            )


def check_cheaply(path: Path, manifest: Manifest) -> None:
    """HarnessError for a listed file that is missing, of another length, or small and changed.

    What a list of many runs can afford: large files are not read.
    """
    for name, expected in sorted(manifest.checksums.items()):
        seen_bytes = size_of(path / name)
        listed_bytes = manifest.sizes_bytes.get(name, seen_bytes)
        is_small = seen_bytes <= _SMALL_BYTES
        if seen_bytes != listed_bytes or (is_small and sha256_of(path / name) != expected):
            raise HarnessError(
                where=str(path / name),
                seen=f"{seen_bytes} bytes, which are not those that were archived",
                expected=_SOUND,
            )


def sealed_verdict(path: Path, sums: dict[str, str]) -> bytes | None:
    """`verdict.json` as it was written; None where nobody has judged. HarnessError on changes."""
    if VERDICT_FILE not in sums:
        return None
    data = read_file(path / VERDICT_FILE)
    if hashlib.sha256(data).hexdigest() != sums[VERDICT_FILE]:
        raise HarnessError(
            where=str(path / VERDICT_FILE),
            seen="another checksum than SHA256SUMS says",
            expected=_SOUND,
        )
    return data
