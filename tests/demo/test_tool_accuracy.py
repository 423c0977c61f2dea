"""Tools and schemas with the demo model over HTTP; docs/structured-output.md has the figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo.tool_accuracy import Report, ask_for_records, ask_for_tools, schema_items, tool_items
from tests.factories.demo_server import RunningServer

_FLAGS = {"overlap": (), "no overlap": ("--disable-overlap-schedule",)}


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    servers = {name: RunningServer(tmp_path_factory.mktemp("logs"), flags) for name, flags in _FLAGS.items()}
    yield {name: server.url for name, server in servers.items()}
    for server in servers.values():
        server.close()


def _all(url: str, count: int) -> list[Report]:
    return [
        ask_for_tools(url, tool_items(count), "auto"),
        ask_for_tools(url, tool_items(count, only_calls=True), "required"),
        ask_for_records(url, schema_items(count)),
    ]


def _check(urls: dict[str, str], count: int, least: float) -> None:
    reports = {name: _all(url, count) for name, url in urls.items()}
    auto, required, records = reports["overlap"]
    assert auto.percent >= least, auto.misses
    for report in (required, records):
        assert report.num_valid == report.num_stopped > 0, report.misses
    for with_overlap, without in zip(*reports.values(), strict=True):
        assert with_overlap.answers == without.answers


def test_a_sample_of_held_out_prompts(urls: dict[str, str]) -> None:
    _check(urls, 4, least=75.0)


@pytest.mark.slow
def test_held_out_prompts(urls: dict[str, str]) -> None:
    _check(urls, 200, least=97.0)
