"""A server to fetch from, and processes that fetch."""

from collections.abc import Callable, Iterator

import pytest

from tests.fetch.hub_server import Fetcher, Server, serving
from vitkd_bench.fetch import patience


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this machine, on a free port."""
    with serving() as server:
        yield server


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network may be used, and a server that is busy is asked again at once."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(patience, "PAUSE", 0.01)


@pytest.fixture
def fetcher() -> Iterator[Callable[..., Fetcher]]:
    """Starts processes that fetch, and ends them."""
    started: list[Fetcher] = []

    def start(**environment: str) -> Fetcher:
        started.append(Fetcher(**environment))
        return started[-1]

    yield start
    for one in started:
        one.kill()
