"""For every test: a case of Hypothesis may take its time, for other work shares the machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("headroom", deadline=None)
settings.load_profile("headroom")
