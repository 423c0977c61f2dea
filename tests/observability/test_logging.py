"""Log lines in both formats."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Literal

import pytest

from hookline.observability.logging import configure_logging, request_scope


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    yield
    logging.captureWarnings(False)
    root.handlers[:], warnings.showwarning = handlers, show
    root.setLevel(level)


def _lines(log_format: Literal["text", "json"], level: str = "info") -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    configure_logging(level=level, log_format=log_format, process="scheduler", stream=stream)
    return logging.getLogger("hookline.test"), stream


def test_json_lines_are_objects_with_request_id_and_extras() -> None:
    logger, stream = _lines("json")
    with request_scope("r-1"):
        logger.info("done: %s", "ü\nline", extra={"tokens": 3})
    logger.warning("later")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["message"] == "done: ü\nline"
    assert (first["request_id"], first["tokens"], first["level"], first["process"]) == ("r-1", 3, "info", "scheduler")
    assert first["logger"] == "hookline.test"
    assert first["time"].endswith("+00:00")
    assert "request_id" not in second


def test_json_lines_carry_exceptions_whole() -> None:
    logger, stream = _lines("json")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_extras_cannot_replace_the_message() -> None:
    logger, stream = _lines("json")
    logger.info("mine", extra={"level": "fake", "request_id": "given"})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["request_id"]) == ("info", "given")


def test_text_lines_have_everything_on_one_line() -> None:
    logger, stream = _lines("text")
    with request_scope("r-1"):
        logger.info("done", extra={"tokens": 3})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("INFO scheduler hookline.test: done [r-1] tokens=3")


def test_level_and_warnings() -> None:
    logger, stream = _lines("text", "warning")
    logger.info("quiet")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    assert "quiet" not in stream.getvalue()
    assert "careful" in stream.getvalue()


def test_request_scope_ends() -> None:
    logger, stream = _lines("text")
    with request_scope("outer"), request_scope("inner"):
        logger.info("a")
    logger.info("b")
    first, second = stream.getvalue().splitlines()
    assert "[inner]" in first
    assert "[" not in second
