"""Table of contents of hookline-logits: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.logits import LogitsProcessorSpec
from hookline.interfaces.spec import PluginInfo
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="logits",
    provides=("logits_processors",),
    summary="logits processors that requests may name",
)


@hookimpl
def hookline_logits_processors() -> list[LogitsProcessorSpec]:
    return [
        LogitsProcessorSpec(
            name="allowed_tokens",
            target="hookline_logits.allowed_tokens:AllowedTokens",
            summary="{token_ids}: only these tokens (choices, labels)",
        ),
        LogitsProcessorSpec(
            name="bad_words",
            target="hookline_logits.bad_words:BadWords",
            summary="{token_ids: [[...], ...]}: sequences of tokens that may not occur",
        ),
        LogitsProcessorSpec(
            name="no_repeat_ngram",
            target="hookline_logits.no_repeat_ngram:NoRepeatNgram",
            summary="{size, window, allowed_token_ids}: no sequence of so many tokens twice",
        ),
    ]
