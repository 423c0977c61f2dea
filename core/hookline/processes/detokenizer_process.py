"""The detokenizer process: token outputs in, text outputs out, everything else passed on."""

from __future__ import annotations

import zmq

from hookline.frontend.detokenizer_manager import DetokenizerManager
from hookline.messages.outputs import BatchTokenOutput
from hookline.processes.channels import detokenizer_ends
from hookline.processes.child import ChildContext
from hookline.text.tokenizer import load_tokenizer


def run(context: ChildContext) -> None:
    """Work until the parent hangs up. Without a tokenizer, token ids pass with empty texts."""
    skip = context.plan.config.model.skip_tokenizer_init
    manager = DetokenizerManager(None if skip else load_tokenizer(context.plan.tokenizer_path))
    receiver, sender = detokenizer_ends(context.addresses, zmq.Context())
    context.ready({})
    while True:
        for message in receiver.receive(timeout=None):
            sender.send(manager.process(message) if isinstance(message, BatchTokenOutput) else message)
