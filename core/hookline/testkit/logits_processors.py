"""LogitsProcessorSuite: parameters are checked, and logits change in place, by the given tokens alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from hookline.errors import RequestError
from hookline.interfaces.logits import LogitsProcessor, LogitsProcessorSpec
from hookline.testkit.offer_suite import OfferSuite, in_child
from hookline.testkit.parser_answers import json_values
from hookline.testkit.properties import examples

#: (prompt_ids, output_ids)
History = tuple[list[int], list[int]]


def histories(vocab_size: int) -> st.SearchStrategy[History]:
    """Prompts, and outputs that may be empty, of few different tokens so that something repeats."""
    few, any_token = st.integers(0, 4), st.integers(0, vocab_size - 1)
    ids = st.lists(few, max_size=12) | st.lists(any_token, max_size=12)
    return st.tuples(ids.filter(bool), ids)


class LogitsProcessorSuite(OfferSuite[LogitsProcessorSpec]):
    """Give ``good`` and ``bad`` parameters, for a vocabulary of ``vocab_size`` tokens."""

    kind = "logits_processors"

    vocab_size: ClassVar[int] = 32
    #: Parameters as requests write them: JSON values.
    good: ClassVar[Sequence[Any]] = ()
    #: Parameters that ``validate`` refuses.
    bad: ClassVar[Sequence[Any]] = ()
    #: (prompt, output) that matter to the processor, beside those that the suite makes up. Over all of them, at
    #: least one of ``good`` has to change a logit.
    histories: ClassVar[Sequence[tuple[Sequence[int], Sequence[int]]]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name in ("good", "bad"):
            if name in metafunc.fixturenames and metafunc.cls is not None:
                values = getattr(metafunc.cls, name)
                metafunc.parametrize(name, values, ids=[ascii(value)[:40] for value in values])

    @classmethod
    def processor(cls) -> LogitsProcessor:
        processor = cls.target()()
        assert isinstance(processor, LogitsProcessor), "the target must be a subclass of LogitsProcessor"
        return processor

    @classmethod
    def logits(cls, num_rows: int = 1) -> torch.Tensor:
        """[num_rows, vocab_size] float32, all different."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(num_rows, cls.vocab_size, generator=generator) * 4

    @classmethod
    def applied(cls, params: Any, history: History, processor: LogitsProcessor | None = None) -> torch.Tensor:
        """[V] what becomes of the same logits; ``params`` as a request gives them."""
        processor = processor or cls.processor()
        logits_V = cls.logits()[0]
        processor.apply(logits_V, processor.validate(params, cls.vocab_size), *history)
        return logits_V

    @classmethod
    def draw_history(cls, data: st.DataObject) -> History:
        """One of the author's histories, or any."""
        given_ones = [(list(prompt), list(output)) for prompt, output in cls.histories]
        known = st.sampled_from(given_ones) if given_ones else st.nothing()
        prompt, output = data.draw(known | histories(cls.vocab_size))
        return list(prompt), list(output)

    # --- parameters ---

    def test_has_parameters_to_try(self) -> None:
        assert self.good, f"{type(self).__name__}: set `good` to parameters of requests"
        assert self.bad, f"{type(self).__name__}: set `bad` to parameters that `validate` refuses"

    def test_good_parameters_pass_and_stay_as_they_are(self, good: Any) -> None:
        """The same object is checked in the frontend and sent to the worker."""
        params = copy.deepcopy(good)
        self.processor().validate(params, self.vocab_size)
        assert params == good

    def test_bad_parameters_are_the_requests_error(self, bad: Any) -> None:
        with pytest.raises(RequestError) as caught:
            self.processor().validate(copy.deepcopy(bad), self.vocab_size)
        assert len(str(caught.value)) > 10, "say what was given and what is allowed"
        assert len(str(caught.value)) < 1000, "quote the beginning of long values only"

    @examples(80)
    @given(data=st.data())
    def test_any_parameters_pass_or_are_refused(self, data: st.DataObject) -> None:
        """What is no ``RequestError`` is a server error, for a request that is at fault."""
        params: Any = data.draw(json_values())
        if data.draw(st.booleans()) and self.good:
            params = copy.deepcopy(data.draw(st.sampled_from(self.good)))
            if isinstance(params, dict):
                key = data.draw(st.sampled_from([*params, "unheard_of"]))
                params[key] = data.draw(json_values())
        try:
            self.processor().validate(params, self.vocab_size)
        except RequestError:
            return

    def test_parameters_survive_the_wire(self, good: Any) -> None:
        """They come as JSON and travel to the worker as msgpack."""
        assert json.loads(json.dumps(good)) == good, "`good` holds JSON values: no tuples, keys are strings"
        history: History = ([1, 2, 3, 1, 2], [1, 2, 3, 1])
        expected = self.applied(good, history)
        for sent in (json.loads(json.dumps(good)), msgspec.msgpack.decode(msgspec.msgpack.encode(good))):
            assert torch.equal(self.applied(sent, history), expected)

    def test_parameters_are_checked_without_torch(self) -> None:
        """The frontend, which checks them first, imports no torch."""
        module, _, attribute = self.offer().spec.target.partition(":")
        source = (
            f"import json, sys, {module}; from hookline.errors import RequestError\n"
            f"processor = {module}.{attribute}()\n"
            "for params in json.load(sys.stdin):\n"
            "    try:\n"
            f"        processor.validate(params, {self.vocab_size})\n"
            "    except RequestError:\n"
            "        pass\n"
            "print('torch' in sys.modules)"
        )
        tried = [params for params in (*self.good, *self.bad) if _is_json(params)]
        assert in_child(source, json.dumps(tried).encode()).strip() == "False", f"{module} imports torch"

    # --- logits ---

    @examples(25)
    @given(data=st.data())
    def test_only_its_own_row_changes_and_in_place(self, data: st.DataObject, good: Any) -> None:
        """Each request of a batch has its processors; the sampler reads the tensor that it gave."""
        prompt, output = self.draw_history(data)
        processor = self.processor()
        params = processor.validate(good, self.vocab_size)
        logits_BV = self.logits(3)
        before = logits_BV.clone()
        given_tokens = (list(prompt), list(output))
        processor.apply(logits_BV[1], params, prompt, output)
        assert torch.equal(logits_BV[[0, 2]], before[[0, 2]]), "another request's logits have changed"
        assert (prompt, output) == given_tokens, "the tokens are the engine's: copy them to change them"

    def test_some_parameters_change_some_logits(self) -> None:
        """Otherwise nothing else here means anything. Assigning to ``logits_V`` itself changes nothing."""
        made_up: list[History] = [([1, 2, 3, 1, 2], [1, 2, 3, 1]), ([1], []), ([0, 0, 0], [0, 0, 0])]
        tried = [*made_up, *((list(prompt), list(output)) for prompt, output in self.histories)]
        before = self.logits()[0]
        changed = [not torch.equal(self.applied(good, history), before) for good in self.good for history in tried]
        assert any(changed), "no logit has changed in place; give `histories` in which the processor has work"

    @examples(25)
    @given(data=st.data())
    def test_logits_are_numbers_and_a_token_is_left(self, data: st.DataObject, good: Any) -> None:
        """Not finite but for -inf fails the request, and so does a row without any token."""
        logits_V = self.applied(good, self.draw_history(data))
        assert not logits_V.isnan().any()
        assert not (logits_V == torch.inf).any()
        assert logits_V.isfinite().any(), "every token is forbidden"

    @examples(25)
    @given(data=st.data())
    def test_the_answer_depends_on_the_tokens_alone(self, data: st.DataObject, good: Any) -> None:
        """Not on calls before it: a worker has one processor for all requests, and a retracted one starts again."""
        (prompt, output), other = self.draw_history(data), self.draw_history(data)
        expected = self.applied(good, (prompt, output))
        used = self.processor()
        for length in range(len(output) + 1):
            self.applied(good, (prompt, output[:length]), used)
            self.applied(self.good[-1], other, used)
        assert torch.equal(self.applied(good, (prompt, output), used), expected)
        for length in (0, len(output) // 2):
            again = (prompt, output[:length])
            assert torch.equal(self.applied(good, again, used), self.applied(good, again))

    @examples(25)
    @given(data=st.data())
    def test_checked_parameters_serve_every_step(self, data: st.DataObject, good: Any) -> None:
        """``validate`` runs once for a request, ``apply`` for each of its tokens."""
        prompt, output = self.draw_history(data)
        processor = self.processor()
        params = processor.validate(good, self.vocab_size)
        for length in range(len(output) + 1):
            logits_V = self.logits()[0]
            processor.apply(logits_V, params, prompt, output[:length])
            assert torch.equal(logits_V, self.applied(good, (prompt, output[:length])))

    def test_works_right_behind_the_prompt(self, good: Any) -> None:
        for prompt in ([1], list(range(self.vocab_size // 2))):
            assert self.applied(good, (prompt, [])).isfinite().any()

    def test_prompts_may_hold_placeholders_beyond_the_vocabulary(self, good: Any) -> None:
        """So the places of images and audio are marked."""
        placeholder = self.vocab_size + 9
        for prompt in ([placeholder, 1, 2], [1, placeholder], [placeholder] * 3, [1, placeholder, 1, placeholder, 1]):
            assert self.applied(good, (prompt, [])).isfinite().any()

    @examples(20)
    @given(data=st.data())
    def test_works_on_a_gpu(self, data: st.DataObject, good: Any) -> None:
        if not torch.cuda.is_available():
            pytest.skip("there is no GPU here")
        history = self.draw_history(data)
        expected = self.applied(good, history)
        assume(bool(expected.isfinite().any()))
        processor = self.processor()
        logits_V = self.logits()[0].cuda()
        processor.apply(logits_V, processor.validate(good, self.vocab_size), *history)
        torch.testing.assert_close(logits_V.cpu(), expected)


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
