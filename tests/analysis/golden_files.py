"""What several folders hold their pages against: golden files, and places that change no byte."""

from __future__ import annotations

import os
from pathlib import Path

PLACES = [
    {"TZ": "Pacific/Kiritimati", "LANG": "de_DE.UTF-8", "PYTHONHASHSEED": "1"},
    {"TZ": "America/St_Johns", "LC_ALL": "C", "PYTHONHASHSEED": "4242"},
]


def compare_golden(folder: Path, name: str, text: str) -> None:
    """Compare with a golden file; HEADROOM_WRITE_GOLDEN=1 writes it instead."""
    path = folder / name
    if os.environ.get("HEADROOM_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
    assert text == path.read_bytes().decode()
