"""Logits processors: named plugins that change logits before sampling, chosen per request by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hookline.interfaces.spec import Spec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsProcessorSpec(Spec):
    """A logits processor. ``target`` is a subclass of ``LogitsProcessor``, called without arguments once per
    worker. Requests name it in ``SamplingParams.logits_processors``."""

    kind: ClassVar[str] = "logits_processors"
    target_base: ClassVar[str] = "hookline.interfaces.logits:LogitsProcessor"


class LogitsProcessor(ABC):
    """Changes the logits of one request. Grammar masks are applied after it, so it cannot reopen a token."""

    @abstractmethod
    def validate(self, params: Any, vocab_size: int) -> Any:
        """Check a request's parameters and return what ``apply`` needs; raises ``RequestError``.

        Runs in the frontend and again in the worker. The frontend imports no torch: neither should the
        module of a processor.
        """

    @abstractmethod
    def apply(self, logits_V: torch.Tensor, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        """Change ``logits_V`` [V] float32 in place, after penalties and biases.

        ``output_ids`` are exact, whatever the schedule. What is raised fails the request, not the pass.
        """
