"""``python -m hookline.bench.fake_server``: ``hookline serve`` with the fake scheduler."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from hookline.config.sources import load_config
from hookline.launch import ProcessTarget, ProcessTargets, serve

_SCHEDULER = "hookline.bench.fake_scheduler"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; ``--options`` holds the fields of ``FakeSchedulerOptions`` as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", type=json.loads, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True)
    given = parser.parse_args(arguments)
    # The warm-up's reader says nothing to the fake scheduler. The name is part of every event: the client counts
    # bytes that it must not hold, and its length must not depend on the model's.
    flags = {"host": given.host, "port": given.port, "warmup": "false", "served_model_name": "model"}
    target = ProcessTarget(target=f"{_SCHEDULER}:run", preload=(_SCHEDULER,), options=given.options)
    return serve(load_config(files=[given.config], flags=flags), targets=ProcessTargets(scheduler=target))


if __name__ == "__main__":
    sys.exit(main())
