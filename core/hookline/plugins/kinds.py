"""Kinds: the families of offers. A kind's name is that of its hook without ``hookline_``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hookline.errors import PluginError
from hookline.interfaces.api import ApiFamilySpec
from hookline.interfaces.attention import AttentionBackendSpec
from hookline.interfaces.checkpoints import CheckpointSourceSpec
from hookline.interfaces.grammar import GrammarBackendSpec
from hookline.interfaces.kernels import OpSetSpec
from hookline.interfaces.logits import LogitsProcessorSpec
from hookline.interfaces.lora import LoRABackendSpec
from hookline.interfaces.model import ModelSpec
from hookline.interfaces.multimodal import MediaLoaderSpec
from hookline.interfaces.parsers import FunctionCallParserSpec, ReasoningParserSpec
from hookline.interfaces.pooling import PoolerSpec
from hookline.interfaces.scheduling import SchedulePolicySpec, SchedulerSpec
from hookline.interfaces.spec import Spec
from hookline.plugins.names import unknown_name

#: kind -> class of its specs, in the order in which listings show them.
SPEC_TYPES: Mapping[str, type[Spec]] = MappingProxyType(
    {
        spec_type.kind: spec_type
        for spec_type in (
            ModelSpec,
            CheckpointSourceSpec,
            PoolerSpec,
            AttentionBackendSpec,
            OpSetSpec,
            LoRABackendSpec,
            LogitsProcessorSpec,
            MediaLoaderSpec,
            SchedulerSpec,
            SchedulePolicySpec,
            GrammarBackendSpec,
            ReasoningParserSpec,
            FunctionCallParserSpec,
            ApiFamilySpec,
        )
    }
)


def spec_type_of(kind: str) -> type[Spec]:
    """The class of a kind's specs; ``PluginError`` with the near miss for an unknown kind."""
    try:
        return SPEC_TYPES[kind]
    except KeyError:
        raise PluginError(unknown_name("kind of plugin", kind, SPEC_TYPES)) from None


def hook_of(kind: str) -> str:
    """Name of the hook that offers a kind."""
    return f"hookline_{kind}"
