"""Puts the parts of a server's intake of media together."""

from __future__ import annotations

import logging
import math

from hookline.config.engine_plan import EnginePlan
from hookline.errors import RequestError
from hookline.interfaces.multimodal import MultimodalProcessor
from hookline.media.checks import MediaChecks
from hookline.media.decoders import Decoders
from hookline.media.decoding import load_processor
from hookline.media.intake import MediaIntake, segment_prefix
from hookline.media.jobs import DecoderSetup
from hookline.media.limits import DecodeLimits
from hookline.media.loaders import MediaLoaders
from hookline.media.pool import MediaPool
from hookline.media.segments import free_bytes
from hookline.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_GIB = 1 << 30
#: A decoder whose server does not end it ends itself so much later.
_GRACE_SECONDS = 30
#: Part of the free shared memory that the pool may have.
_SHARE = 0.9


def build_processor(plan: EnginePlan, tokenizer: Tokenizer | None) -> MultimodalProcessor | None:
    """The processor of an engine's model, ``None`` for a model that takes text only."""

    def tokenize(text: str) -> list[int]:
        if tokenizer is None:
            raise RequestError("media need a tokenizer, and this server runs without one (skip_tokenizer_init)")
        return tokenizer.encode(text, add_special_tokens=False)

    return load_processor(plan.plugins, plan.model_path, tokenize)


def build_intake(plan: EnginePlan, processor: MultimodalProcessor) -> MediaIntake:
    """A server's intake of media. Starts no process yet."""
    config = plan.config.multimodal
    prefix = segment_prefix()
    setup = DecoderSetup(
        plugins=plan.plugins,
        model_path=plan.model_path,
        limits=DecodeLimits.of(config),
        prefix=prefix,
        max_bytes=int(config.media_decode_gib * _GIB),
        max_seconds=math.ceil(config.media_decode_timeout) + _GRACE_SECONDS,
    )
    return MediaIntake(
        config=config,
        processor=processor,
        checks=MediaChecks(config, processor.placeholders, plan.served_model_name),
        loaders=MediaLoaders.load(plan.plugins, config),
        decoders=Decoders(setup, count=config.media_decoders, timeout=config.media_decode_timeout),
        pool=MediaPool(_pool_bytes(config.media_pool_gib)),
        prefix=prefix,
    )


def _pool_bytes(gib: float) -> int:
    """The configured size, or what shared memory has room for: a pool that is larger would never make any."""
    configured = int(gib * _GIB)
    possible = int(free_bytes() * _SHARE)
    if possible >= configured:
        return configured
    logger.warning(
        "multimodal.media_pool_gib is %g, but shared memory has room for %.3f GiB, which is what the pool gets; give "
        "the server more of it (docker: --shm-size), or set media_pool_gib lower",
        gib,
        possible / _GIB,
    )
    return possible
