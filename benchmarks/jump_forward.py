"""What jump-forward saves: one request at a time under a schema whose text is mostly forced, with it and without.

    python benchmarks/jump_forward.py [--repetitions 5] [--least 3]

The demo model on the CPU; white space is off, so that keys and punctuation are forced. Prints output tokens per second
and tokens of each, the best repetition of each, turn by turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from hookline import Engine, SamplingParams

_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "transaction_identifier": {"type": "integer", "minimum": 0, "maximum": 99},
        "settlement_currency": {"enum": ["euro", "dollar", "yen"]},
        "requires_manual_approval": {"type": "boolean"},
        "destination_account_holder": {"enum": ["Alice Arnold", "Boris Brandt", "Clara Conrad"]},
        "notification_preferences": {
            "type": "object",
            "properties": {"send_electronic_mail": {"type": "boolean"}, "send_text_message": {"type": "boolean"}},
            "required": ["send_electronic_mail", "send_text_message"],
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--least", type=int, default=3, help="grammar.grammar_jump_forward")
    arguments = parser.parse_args()
    schema = json.dumps({**_SCHEMA, "required": list(_SCHEMA["properties"])})
    engines = {
        least: Engine(grammar_jump_forward=least, plugins={"grammar": {"any_whitespace": False}})
        for least in (0, arguments.least)
    }
    best = dict.fromkeys(engines, float("inf"))
    tokens = dict.fromkeys(engines, 0)
    for number in range(arguments.repetitions + 1):
        for least, engine in engines.items():
            params = SamplingParams(max_new_tokens=400, temperature=0.0, json_schema=schema)
            start = time.perf_counter()
            (output,) = engine.generate([f"Payment {number}:"], params)
            seconds = time.perf_counter() - start
            json.loads(output.text)
            tokens[least] = len(output.output_ids)
            # The first one compiles the grammar.
            best[least] = min(best[least], seconds) if number else best[least]
    for least, engine in engines.items():
        sys.stdout.write(f"jump_forward {least}: {tokens[least]} tokens in {best[least]:.3f} s\n")
        engine.close()
    sys.stdout.write(f"time saved: {1 - best[arguments.least] / best[0]:.0%}\n")


if __name__ == "__main__":
    main()
