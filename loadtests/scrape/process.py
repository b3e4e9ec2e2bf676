"""The scraper's process: one a run, on the master's host, started by the master.

    python -m loadtests.scrape.process --plan-fd N --to-unix-ns N --parent PID

Reads a `ScrapeOrder` from the descriptor, scrapes all sources at every tick of an absolute
schedule, and writes the rows of each scrape as one line of JSON to standard output. A tick
that passed while this process was held up is a row as well.

Its own process, and of low priority, because a page of a target is whatever the target
sends: parsing it must hold up neither the master's loop nor, on the same host, an engine.
Ends when its standard output closes or its parent dies.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from time import monotonic_ns
from typing import Final

from loadtests.clock import NS_PER_S
from loadtests.engine.tls import build_context
from loadtests.errors import HeadroomError
from loadtests.parentage import lives_with
from loadtests.plan.template import compile_template
from loadtests.record.server import ServerRow, encode_rows
from loadtests.scrape.fetch import Fetcher
from loadtests.scrape.order import ScrapeOrder, decode_order
from loadtests.scrape.rows import Scraper

_NICENESS: Final = 10


def build_scraper(order: ScrapeOrder, to_unix_ns: int) -> Scraper:
    """Fill headers from this environment, load certificates; ScenarioError, HarnessError."""
    scraping = order.scraping
    hosts = [endpoint.at for endpoint in scraping.endpoints]
    hosts += [scraping.prometheus.at] if scraping.prometheus is not None else []
    is_tls = any(at.scheme == "https" for at in hosts)
    tls = None if scraping.prometheus is not None else order.tls  # settings of the nodes
    return Scraper(
        scraping=scraping,
        fetcher=Fetcher(
            headers=tuple((name, _filled(name, value)) for name, value in scraping.headers),
            authorised=order.authorised_hosts,
            context=build_context(tls, alpn="http/1.1") if is_tls else None,
            server_name=None if tls is None else tls.server_name,
            limit_bytes=scraping.response_limit_bytes,
        ),
        to_unix_ns=to_unix_ns,
    )


def _filled(name: str, value: str) -> str:
    template = compile_template(
        value.encode(), run_id="", seed=0, feeds=(), environment=os.environ,
        where=f"server.headers.{name}",
    )  # fmt: skip
    return template.render(0).decode()


def write(rows: tuple[ServerRow, ...]) -> None:
    """One line, whole: nobody else writes to this pipe."""
    left = memoryview(encode_rows(rows) + b"\n")
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]


async def run(scraper: Scraper) -> None:
    """Scrape until nobody reads any more."""
    every_ns = scraper.scraping.every_ns
    due_ns = monotonic_ns()
    while True:
        await asyncio.sleep(max(0, due_ns - monotonic_ns()) / NS_PER_S)
        while monotonic_ns() - due_ns >= every_ns:
            write(scraper.missed(due_ns))
            due_ns += every_ns
        for done in asyncio.as_completed([scraper.scrape(one) for one in scraper.sources]):
            write(await done)
        due_ns += every_ns


def _prepare(parent_pid: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the master's to act on
    os.nice(_NICENESS)
    if not lives_with(parent_pid):
        sys.exit(0)


def main() -> int:
    """Read the order and scrape; one line on standard error says why it cannot."""
    parser = argparse.ArgumentParser(prog="loadtests.scrape.process")
    parser.add_argument("--plan-fd", type=int, required=True)
    parser.add_argument("--to-unix-ns", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    _prepare(options.parent)
    with os.fdopen(options.plan_fd, "rb") as file:
        order = decode_order(file.read())
    try:
        asyncio.run(run(build_scraper(order, options.to_unix_ns)))
    except HeadroomError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
