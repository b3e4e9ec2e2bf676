"""What the master hands to the scraper's process, and how it is started."""

from __future__ import annotations

from typing import Final

import msgspec

from loadtests.plan.model import Tls
from loadtests.plan.server_metrics import Scraping

MODULE: Final = "loadtests.scrape.process"


class ScrapeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Headers still hold their placeholders: secrets are in no order and on no command line."""

    scraping: Scraping
    tls: Tls | None
    authorised_hosts: tuple[str, ...]


def encode_order(order: ScrapeOrder) -> bytes:
    """MessagePack of all fields."""
    return msgspec.msgpack.encode(order)


def decode_order(data: bytes) -> ScrapeOrder:
    """Inverse of `encode_order`."""
    return msgspec.msgpack.decode(data, type=ScrapeOrder)
