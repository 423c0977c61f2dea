"""Broken logits processors. Each class of tests names the test that must fail."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hookline.errors import RequestError
from hookline.interfaces.logits import LogitsProcessor, LogitsProcessorSpec
from hookline.testkit.logits_processors import LogitsProcessorSuite

if TYPE_CHECKING:
    import torch


def spec(target: str, module: str = __name__) -> LogitsProcessorSpec:
    return LogitsProcessorSpec(name="broken", target=f"{module}:{target}", summary="broken on purpose")


class OnceSuite(LogitsProcessorSuite):
    """What the processors below get wrong: tokens of the output do not come again."""

    good = ({"except": [2]}, {"except": []})
    bad = (None, {}, {"except": "x"}, {"except": [99]}, {"except": [1], "more": 1})


class Once(LogitsProcessor):
    """Right but for what the subclasses break."""

    def validate(self, params: Any, vocab_size: int) -> Any:
        kept = params.get("except") if isinstance(params, dict) and params.keys() == {"except"} else None
        if not isinstance(kept, list) or not all(type(token) is int and 0 <= token < vocab_size for token in kept):
            raise RequestError(f"logits processor 'once' takes 'except', a list of token ids, not {params!r:.60}")
        return frozenset(kept)

    def apply(self, logits_V: torch.Tensor, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        forbidden = self.forbidden(params, prompt_ids, output_ids)
        # One token is always left.
        if len(forbidden) < logits_V.shape[0]:
            logits_V[sorted(forbidden)] = -math.inf

    def forbidden(self, params: Any, prompt_ids: list[int], output_ids: list[int]) -> set[int]:
        return set(output_ids) - params


class Trusting(Once):
    """Takes parameters as they come."""

    def validate(self, params: Any, vocab_size: int) -> Any:
        return frozenset(params["except"])


class TestTrusting(OnceSuite):
    spec = spec("Trusting")
    caught_by = "test_bad_parameters_are_the_requests_error"


class Careless(Once):
    """Forgets that JSON holds lists too."""

    def validate(self, params: Any, vocab_size: int) -> Any:
        if not params or "except" not in params or len(params) > 1 or not isinstance(params["except"], list):
            raise RequestError("logits processor 'once' takes 'except', a list of token ids")
        if max(params["except"], default=0) >= vocab_size:
            raise RequestError("logits processor 'once' takes token ids within the vocabulary")
        return frozenset(params["except"])


class TestCareless(OnceSuite):
    spec = spec("Careless")
    caught_by = "test_any_parameters_pass_or_are_refused"


class Consuming(Once):
    """Takes the parameters apart, which the worker needs too."""

    def validate(self, params: Any, vocab_size: int) -> Any:
        checked = super().validate(params, vocab_size)
        params.pop("except")
        return checked


class TestConsuming(OnceSuite):
    spec = spec("Consuming")
    caught_by = "test_good_parameters_pass_and_stay_as_they_are"


class Replacing(Once):
    """Makes new logits that nobody reads."""

    def apply(self, logits_V: torch.Tensor, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        changed = logits_V.clone()
        super().apply(changed, params, prompt_ids, output_ids)
        logits_V = changed


class TestReplacing(OnceSuite):
    spec = spec("Replacing")
    caught_by = "test_some_parameters_change_some_logits"


class Remembering(Once):
    """Collects tokens itself, of all requests together."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def forbidden(self, params: Any, prompt_ids: list[int], output_ids: list[int]) -> set[int]:
        self.seen.update(output_ids[-1:])
        return self.seen - params


class TestRemembering(OnceSuite):
    spec = spec("Remembering")
    caught_by = "test_the_answer_depends_on_the_tokens_alone"


class Exhausting(Once):
    """May forbid everything."""

    def apply(self, logits_V: torch.Tensor, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        if len(output_ids) > 6:
            logits_V.fill_(-math.inf)


class TestExhausting(OnceSuite):
    spec = spec("Exhausting")
    caught_by = "test_logits_are_numbers_and_a_token_is_left"


class Dividing(Once):
    """Scales by how often a token came: 0 / 0 for those that never did."""

    def apply(self, logits_V: torch.Tensor, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        if output_ids:
            counts = logits_V.new_tensor([output_ids.count(token) for token in range(logits_V.shape[0])])
            logits_V -= counts * (logits_V.new_tensor(1.0) / counts)


class TestDividing(OnceSuite):
    spec = spec("Dividing")
    caught_by = "test_logits_are_numbers_and_a_token_is_left"


class Spreading(Once):
    """Indexes the storage, in which its row is not the first."""

    def apply(self, logits_V: torch.Tensor, params: Any, prompt_ids: list[int], output_ids: list[int]) -> None:
        whole = logits_V.as_strided((logits_V.shape[0],), (1,), 0)
        super().apply(whole, params, prompt_ids, output_ids)


class TestSpreading(OnceSuite):
    spec = spec("Spreading")
    caught_by = "test_only_its_own_row_changes_and_in_place"


class Sorting(Once):
    """Sorts the engine's own list."""

    def forbidden(self, params: Any, prompt_ids: list[int], output_ids: list[int]) -> set[int]:
        output_ids.sort()
        return set(output_ids) - params


class TestSorting(OnceSuite):
    spec = spec("Sorting")
    caught_by = "test_only_its_own_row_changes_and_in_place"


class Looking(Once):
    """Looks at the last output token, of which there is none at first."""

    def forbidden(self, params: Any, prompt_ids: list[int], output_ids: list[int]) -> set[int]:
        return {output_ids[-1]} - params


class TestLooking(OnceSuite):
    spec = spec("Looking")
    caught_by = "test_works_right_behind_the_prompt"


class OverPrompt(Once):
    """Counts the prompt too, where ids may lie beyond the vocabulary."""

    def forbidden(self, params: Any, prompt_ids: list[int], output_ids: list[int]) -> set[int]:
        return set(prompt_ids) | set(output_ids)


class TestOverPrompt(OnceSuite):
    spec = spec("OverPrompt")
    caught_by = "test_prompts_may_hold_placeholders_beyond_the_vocabulary"


class TestHeavy(OnceSuite):
    """Its module imports torch, and with it the frontend."""

    spec = spec("Heavy", "tests.testkit.heavy_processor")
    caught_by = "test_parameters_are_checked_without_torch"
