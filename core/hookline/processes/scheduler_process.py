"""The scheduler process: owns the device."""

from __future__ import annotations

import gc
import sys

import zmq

from hookline.processes.channels import scheduler_ends
from hookline.processes.child import ChildContext
from hookline.progress import ProgressBars
from hookline.scheduler.factory import build_scheduler
from hookline.worker.factory import build_worker


def run(context: ChildContext) -> None:
    """Load the model, then schedule until the tokenizer manager says "shutdown" or the parent hangs up."""
    plan = context.plan
    bars = ProgressBars(enabled=sys.stderr.isatty())
    worker = build_worker(plan, progress=bars.loading, timeline=context.timeline)
    try:
        receiver, sender = scheduler_ends(context.addresses, zmq.Context())
        scheduler = build_scheduler(plan, worker, receiver, sender)
        info = worker.info
        # What lives now lives to the end: a collection in the middle of a step need not look at it.
        gc.freeze()
        context.timeline.mark("ready")
        context.ready(
            {
                "device": info.device,
                "max_total_tokens": info.max_total_tokens,
                "max_running_requests": info.max_running_requests,
                "max_context_len": info.max_context_len,
                "page_size": info.page_size,
                "memory_ledger": dict(info.memory_ledger),
                "start_timeline": context.timeline.seconds,
            }
        )
        scheduler.run()
    finally:
        worker.close()
