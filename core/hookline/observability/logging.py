"""Log lines: text or JSON, each with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

#: Id of the request that the current task works for; "" outside of requests. The one place that log
#: lines and the HTTP layer take it from.
request_id: ContextVar[str] = ContextVar("hookline_request_id", default="")

#: Attributes of every record; what else a record has was given as ``extra``.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "request_id", "process_role"}
#: Loggers that say at INFO what only their own developers want to know.
_QUIET = ("asyncio", "httpx", "uvicorn.error", "urllib3", "filelock", "huggingface_hub")


@contextmanager
def request_scope(rid: str) -> Iterator[None]:
    """Log lines inside carry this request id."""
    token = request_id.set(rid)
    try:
        yield
    finally:
        request_id.reset(token)


def configure_logging(
    *, level: str, log_format: Literal["text", "json"], process: str, stream: TextIO | None = None
) -> None:
    """Send all log lines of this process to ``stream`` (stderr), in one format.

    ``level`` is the least severe level shown, ``process`` the name that lines carry ("server", "scheduler").
    Replaces the root logger's handlers; called once, by the code that owns the process.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_Context(process))
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class _Context(logging.Filter):
    """Adds process and request id to each record."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def filter(self, record: logging.LogRecord) -> bool:
        record.process_role = self._process
        record.request_id = record.__dict__.get("request_id") or request_id.get()
        return True


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:00:00.123 INFO scheduler hookline.scheduler: message [request-id] key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        values = record.__dict__
        head = f"{_time(record):%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d}"
        line = f"{head} {record.levelname} {values['process_role']} {record.name}: {record.getMessage()}"
        if values["request_id"]:
            line += f" [{values['request_id']}]"
        line += "".join(f" {key}={value}" for key, value in _extra(record).items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, process, logger, message, request_id, and the extras."""

    def format(self, record: logging.LogRecord) -> str:
        values = record.__dict__
        line = {
            "time": _time(record, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": values["process_role"],
            "logger": record.name,
            "message": record.getMessage(),
        }
        if values["request_id"]:
            line["request_id"] = values["request_id"]
        for key, value in _extra(record).items():
            line.setdefault(key, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord, zone: object = None) -> datetime:
    return datetime.fromtimestamp(record.created, tz=UTC if zone is UTC else None)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
