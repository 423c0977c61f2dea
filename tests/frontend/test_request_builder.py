"""From GenerateRequest to TokenizedRequests: ids, lengths, defaults, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookline.errors import ConfigError, ContextLengthError, NotServedError, RequestError
from hookline.frontend.request_builder import RequestBuilder
from hookline.interfaces.api import GenerateRequest
from hookline.interfaces.parsers import ReasoningContext
from hookline.messages.requests import LogprobRequest, PoolingRequest
from hookline.sampling_params import SamplingParams
from hookline.testkit.plans import chosen, make_plan
from hookline.text.tokenizer import Tokenizer
from tests.factories.frontend import CONTEXT_LEN, VOCAB_SIZE, save_frontend_checkpoint

_GRAMMAR = chosen("grammar_backends", "fake", "none:none", details={"kinds": ["json_schema", "regex"]})
_BAN = chosen("logits_processors", "ban", "tests.factories.frontend_plugins:BanProcessor")
_MODEL = chosen("models", "llama", "none:none", features=["embedding"])
_POOLERS = [chosen("poolers", name, "none:none") for name in ("last", "mean")]


@pytest.fixture
def builder(checkpoint: Path, tokenizer: Tokenizer) -> RequestBuilder:
    plan = make_plan(checkpoint, plugins=[_GRAMMAR, _BAN, _MODEL, *_POOLERS], adapters={"poet": "/poet"})
    return RequestBuilder(plan, tokenizer)


def _request(prompt: str | None = "to be", **fields: Any) -> GenerateRequest:
    params = fields.pop("params", {})
    return GenerateRequest(prompt=prompt, sampling_params=SamplingParams(**params), **fields)


def _ids(ids: Any, **fields: Any) -> GenerateRequest:
    return _request(None, input_ids=ids, **fields)


def test_text_is_tokenized(builder: RequestBuilder, tokenizer: Tokenizer) -> None:
    (built,) = builder.build(_request("to be or not"))
    assert built.input_ids == tokenizer.encode("to be or not")
    assert built.received_at > 0


def test_token_ids_pass_unchanged(builder: RequestBuilder) -> None:
    assert builder.build(_ids([5, 6, 7]))[0].input_ids == [5, 6, 7]


def test_client_keeps_its_request_id(builder: RequestBuilder) -> None:
    assert [one.rid for one in builder.build(_request(rid="mine"))] == ["mine"]


@pytest.mark.parametrize("priority", [2**31, -(2**31), 10**400])
def test_a_priority_that_cannot_travel_is_refused(builder: RequestBuilder, priority: int) -> None:
    assert builder.build(_request(priority=-5))[0].priority == -5
    with pytest.raises(RequestError, match="priority must be an integer from -2147483647 to 2147483647"):
        builder.build(_request(priority=priority))


def test_choices_have_ids_of_their_own(builder: RequestBuilder) -> None:
    built = builder.build(_request(rid="mine", params={"n": 3, "seed": 1}))
    assert [one.rid for one in built] == ["mine#0", "mine#1", "mine#2"]
    assert [one.choice_index for one in built] == [0, 1, 2]
    assert len({tuple(one.input_ids) for one in built}) == 1


def test_requests_without_id_get_different_ones(builder: RequestBuilder) -> None:
    rids = {builder.build(_request())[0].rid for _ in range(50)}
    assert len(rids) == 50


@pytest.mark.parametrize("rid", ["", "x" * 257, "line\nbreak", 7])
def test_unusable_request_id_is_refused(builder: RequestBuilder, rid: Any) -> None:
    with pytest.raises(RequestError, match="rid"):
        builder.build(_request(rid=rid))


def test_namespace_keeps_its_parts_apart(builder: RequestBuilder) -> None:
    one = builder.build(_request(cache_salt="ab", extra_key="c"))[0].namespace
    other = builder.build(_request(cache_salt="a", extra_key="bc"))[0].namespace
    assert one != other


# --- lengths ---


def test_output_is_cut_at_the_end_of_the_context(builder: RequestBuilder) -> None:
    built = builder.build(_ids([5] * 200, params={"max_new_tokens": 1000, "min_new_tokens": 500}))[0]
    assert built.sampling_params.max_new_tokens == CONTEXT_LEN - 200
    assert built.sampling_params.min_new_tokens == CONTEXT_LEN - 200


def test_unlimited_output_means_the_rest_of_the_context(builder: RequestBuilder) -> None:
    built = builder.build(_ids([5] * 10, params={"max_new_tokens": None}))[0]
    assert built.sampling_params.max_new_tokens == CONTEXT_LEN - 10


@pytest.mark.parametrize("length", [CONTEXT_LEN, CONTEXT_LEN + 1, 10 * CONTEXT_LEN])
def test_prompt_that_leaves_no_room_is_refused(builder: RequestBuilder, length: int) -> None:
    with pytest.raises(ContextLengthError, match=f"{length} tokens.*{CONTEXT_LEN}") as caught:
        builder.build(_ids([5] * length))
    assert caught.value.code == "context_length_exceeded"


def test_longest_prompt_gets_one_token(builder: RequestBuilder) -> None:
    built = builder.build(_ids([5] * (CONTEXT_LEN - 1)))[0]
    assert built.sampling_params.max_new_tokens == 1


def test_prompt_without_output_may_fill_the_context(builder: RequestBuilder) -> None:
    builder.build(_ids([5] * CONTEXT_LEN, params={"max_new_tokens": 0}))
    builder.build(_ids([5] * CONTEXT_LEN, pooling=PoolingRequest()))
    with pytest.raises(ContextLengthError):
        builder.build(_ids([5] * (CONTEXT_LEN + 1), pooling=PoolingRequest()))


def test_max_model_len_shortens_the_context(checkpoint: Path, tokenizer: Tokenizer) -> None:
    builder = RequestBuilder(make_plan(checkpoint, config={"model": {"max_model_len": 32}}), tokenizer)
    with pytest.raises(ContextLengthError, match="32"):
        builder.build(_ids([5] * 32))
    assert builder.models.cards()[0].max_model_len == 32


# --- refusals ---


@pytest.mark.parametrize("prompt", ["", None])
def test_empty_or_missing_prompt_is_refused(builder: RequestBuilder, prompt: str | None) -> None:
    with pytest.raises(RequestError, match="prompt"):
        builder.build(_request(prompt))


@pytest.mark.parametrize("ids", [[], [VOCAB_SIZE], [-1], [1, 2, 10**12], ["1"], [True], [1.0], [None], "12", b"12", 5])
def test_bad_token_ids_are_refused(builder: RequestBuilder, ids: Any) -> None:
    with pytest.raises(RequestError):
        builder.build(_ids(ids))


def test_prompt_of_another_type_is_refused(builder: RequestBuilder) -> None:
    with pytest.raises(RequestError, match="must be text, not int"):
        builder.build(_request(7))  # type: ignore[arg-type]


def test_prompt_and_ids_together_are_refused(builder: RequestBuilder) -> None:
    with pytest.raises(RequestError, match="either"):
        builder.build(_request("a", input_ids=[1]))


def test_server_without_tokenizer_takes_ids_only(checkpoint: Path) -> None:
    builder = RequestBuilder(make_plan(checkpoint, config={"model": {"skip_tokenizer_init": True}}), None)
    assert builder.build(_ids([1]))[0].input_ids == [1]
    with pytest.raises(RequestError, match="give input_ids"):
        builder.build(_request("a"))
    with pytest.raises(RequestError, match="without one"):
        builder.render_chat([{"role": "user", "content": "a"}])


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"stop_token_ids": [VOCAB_SIZE]}, "stop_token_ids"),
        ({"logit_bias": {VOCAB_SIZE: 1.0}}, "logit_bias"),
        ({"stop_regex": "("}, "stop_regex"),
        ({"stop_regex": ["a", "(?P<x>"]}, "stop_regex"),
        ({"ebnf": "root ::= 'a'"}, "ebnf"),
        ({"json_schema": "{"}, "json_schema"),
        ({"json_schema": "[1]"}, "json_schema"),
        ({"json_schema": {"type": "object"}}, "json_schema"),
        ({"regex": "a" * 2_000_000}, "regex"),
        ({"logits_processors": {"bam": {}}}, "logits_processors"),
        ({"logits_processors": {"ban": {"ids": [VOCAB_SIZE]}}}, "logits_processors"),
    ],
)
def test_bad_sampling_values_name_their_field(builder: RequestBuilder, params: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        builder.build(_request(params=params))
    assert caught.value.param == param
    assert caught.value.status_code == 400


def test_good_sampling_values_pass(builder: RequestBuilder) -> None:
    params = {
        "stop_token_ids": [VOCAB_SIZE - 1],
        "logit_bias": {"0": -100},
        "stop_regex": "a+b",
        "json_schema": '{"type": "object"}',
        "logits_processors": {"ban": {"ids": [1]}},
    }
    builder.build(_request(params=params))


def test_unsupported_grammar_names_the_backend_and_what_it_takes(builder: RequestBuilder) -> None:
    with pytest.raises(RequestError, match=r"this server \('fake': json_schema, regex\)$"):
        builder.build(_request(params={"ebnf": "x"}))


def test_unsupported_grammar_names_the_installed_backends_that_take_it(checkpoint: Path, tokenizer: Tokenizer) -> None:
    able = chosen("grammar_backends", "able", "none:none", details={"kinds": ["ebnf"]})
    plan = make_plan(checkpoint, plugins=[_GRAMMAR])
    plan = msgspec.structs.replace(plan, plugins=msgspec.structs.replace(plan.plugins, spare=[able]))
    with pytest.raises(RequestError, match=r"installed too, and able: able \(grammar.grammar_backend\)"):
        RequestBuilder(plan, tokenizer).build(_request(params={"ebnf": "x"}))


def test_grammar_without_backend_says_so(checkpoint: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="grammar_backend"):
        RequestBuilder(make_plan(checkpoint), tokenizer).build(_request(params={"regex": "a"}))


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        (LogprobRequest(top=-1), "top_logprobs"),
        (LogprobRequest(top=1000), "top_logprobs"),
        (LogprobRequest(token_ids=(VOCAB_SIZE,)), "token_ids_logprob"),
        (LogprobRequest(token_ids=tuple([1] * 5000)), "token_ids_logprob"),
        (LogprobRequest(input_start=-1), "logprob_start_len"),
        (LogprobRequest(input_start=4), "logprob_start_len"),
    ],
)
def test_log_probabilities_out_of_range_are_refused(builder: RequestBuilder, wish: LogprobRequest, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        builder.build(_ids([1, 2, 3], logprobs=wish))
    assert caught.value.param == param


def test_log_probabilities_in_range_pass(builder: RequestBuilder) -> None:
    wish = LogprobRequest(top=5, token_ids=(1, 2), input_start=3)
    assert builder.build(_ids([1, 2, 3], logprobs=wish))[0].logprobs == wish


def test_more_log_probabilities_than_fit_a_message_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    long = save_frontend_checkpoint(tmp_path / "long", max_position_embeddings=1_000_000)
    builder = RequestBuilder(make_plan(long), tokenizer)
    with pytest.raises(RequestError, match="at once"):
        builder.build(_ids([1] * 500_000, logprobs=LogprobRequest(top=20, input_start=0)))


# --- models and adapters ---


@pytest.mark.parametrize(("model", "adapter"), [(None, None), ("tiny", None), ("poet", "poet"), ("tiny:poet", "poet")])
def test_model_names_an_adapter(builder: RequestBuilder, model: str | None, adapter: str | None) -> None:
    assert builder.build(_request(model=model))[0].lora == adapter


@pytest.mark.parametrize("model", ["gpt-9", "tiny:none", "other:poet", ""])
def test_model_that_is_not_served_is_404(builder: RequestBuilder, model: str) -> None:
    with pytest.raises(NotServedError, match="served: tiny, poet") as caught:
        builder.build(_request(model=model))
    assert caught.value.status_code == 404


def test_cards_show_the_base_model_and_adapters(builder: RequestBuilder) -> None:
    builder.models.add_adapter("late", "/late")
    builder.models.remove_adapter("poet")
    base, adapter = builder.models.cards()
    assert (base.id, base.parent, base.max_model_len) == ("tiny", None, CONTEXT_LEN)
    assert (adapter.id, adapter.parent, adapter.root) == ("late", "tiny", "/late")


# --- embeddings ---


def test_pooling_is_filled_in(builder: RequestBuilder) -> None:
    built = builder.build(_request(pooling=PoolingRequest(normalize=False), params={"n": 3}))
    assert [one.pooling for one in built] == [PoolingRequest(pooling="last", normalize=False)]
    assert builder.build(_request(pooling=PoolingRequest(pooling="MEAN")))[0].pooling == PoolingRequest(pooling="mean")


def test_unknown_pooling_lists_the_known(builder: RequestBuilder) -> None:
    with pytest.raises(RequestError, match="known: last, mean"):
        builder.build(_request(pooling=PoolingRequest(pooling="max")))


def test_model_without_embeddings_refuses(checkpoint: Path, tokenizer: Tokenizer) -> None:
    plan = make_plan(checkpoint, plugins=[chosen("models", "llama", "none:none"), *_POOLERS])
    with pytest.raises(RequestError, match="does not make embeddings"):
        RequestBuilder(plan, tokenizer).build(_request(pooling=PoolingRequest()))


def test_dimensions_need_a_matryoshka_model(builder: RequestBuilder, tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="cannot be shortened"):
        builder.build(_request(pooling=PoolingRequest(dimensions=8)))
    nested = save_frontend_checkpoint(tmp_path / "nested", matryoshka_dimensions=[8, 16])
    other = RequestBuilder(make_plan(nested, plugins=[_MODEL, *_POOLERS]), tokenizer)
    built = other.build(_request(pooling=PoolingRequest(dimensions=8)))[0]
    assert built.pooling is not None
    assert built.pooling.dimensions == 8
    for size in (0, 9, 64):
        with pytest.raises(RequestError, match=r"\[8, 16\]"):
            other.build(_request(pooling=PoolingRequest(dimensions=size)))


# --- defaults ---

_GENERATION = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "do_sample": True}


@pytest.fixture
def generation_checkpoint(tmp_path: Path) -> Path:
    return save_frontend_checkpoint(tmp_path / "generation", generation_config=_GENERATION)


def _defaults(checkpoint: Path, tokenizer: Tokenizer, **model: Any) -> RequestBuilder:
    return RequestBuilder(make_plan(checkpoint, config={"model": model}), tokenizer)


def test_defaults_come_from_the_nearest_source(generation_checkpoint: Path, tokenizer: Tokenizer) -> None:
    preferred = {"top_p": 0.8, "max_new_tokens": 77}
    builder = _defaults(generation_checkpoint, tokenizer, preferred_sampling_params=preferred)
    params = builder.default_sampling_params({"top_k": 3})
    assert (params.top_k, params.top_p, params.temperature, params.min_p) == (3, 0.8, 0.6, 0.0)
    assert params.max_new_tokens == 77
    assert builder.default_sampling_params({"max_new_tokens": 5}).max_new_tokens == 5


def test_checkpoint_defaults_can_be_switched_off(generation_checkpoint: Path, tokenizer: Tokenizer) -> None:
    builder = _defaults(generation_checkpoint, tokenizer, sampling_defaults="builtin")
    assert builder.default_sampling_params({}) == SamplingParams(max_new_tokens=None)


def test_endpoint_limit_is_the_weakest_default(checkpoint: Path, tokenizer: Tokenizer) -> None:
    builder = _defaults(checkpoint, tokenizer)
    assert builder.default_sampling_params({}, max_new_tokens=16).max_new_tokens == 16
    assert builder.default_sampling_params({}).max_new_tokens is None
    assert builder.default_sampling_params({"max_new_tokens": None}, max_new_tokens=16).max_new_tokens is None


def test_null_means_not_given(generation_checkpoint: Path, tokenizer: Tokenizer) -> None:
    builder = _defaults(generation_checkpoint, tokenizer)
    assert builder.default_sampling_params({"temperature": None, "stop": None}).temperature == 0.6


@given(
    layers=st.lists(st.dictionaries(st.sampled_from(["top_p", "min_p"]), st.floats(0.1, 1.0)), min_size=2, max_size=2)
)
def test_request_always_wins_over_server(
    layers: list[dict[str, float]], checkpoint: Path, tokenizer: Tokenizer
) -> None:
    server, request = layers
    builder = _defaults(checkpoint, tokenizer, preferred_sampling_params=server)
    params = builder.default_sampling_params(request)
    expected = {"top_p": 1.0, "min_p": 0.0, **server, **request}
    assert {"top_p": params.top_p, "min_p": params.min_p} == expected


def test_server_minimum_gives_way_to_a_short_request(checkpoint: Path, tokenizer: Tokenizer) -> None:
    builder = _defaults(checkpoint, tokenizer, preferred_sampling_params={"min_new_tokens": 10})
    assert builder.default_sampling_params({"max_new_tokens": 4}).min_new_tokens == 4
    assert builder.default_sampling_params({}).min_new_tokens == 10


@pytest.mark.parametrize("overrides", [{"temperatur": 1}, {"temperature": -1}, {"top_p": float("nan")}, {"n": 0}])
def test_bad_overrides_are_the_requests_fault(
    checkpoint: Path, tokenizer: Tokenizer, overrides: dict[str, Any]
) -> None:
    with pytest.raises(RequestError, match=next(iter(overrides))):
        _defaults(checkpoint, tokenizer).default_sampling_params(overrides)


def test_bad_server_defaults_stop_the_start(checkpoint: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"preferred_sampling_params.*temperature"):
        _defaults(checkpoint, tokenizer, preferred_sampling_params={"temperature": -1})


# --- chat ---


def test_chat_is_rendered_and_tokenized_without_extra_tokens(builder: RequestBuilder, tokenizer: Tokenizer) -> None:
    rendered = builder.render_chat([{"role": "user", "content": "to be"}])
    assert rendered.prompt == "<|im_start|>user\nto be<|im_end|>\n<|im_start|>assistant\n"
    assert rendered.input_ids == tokenizer.encode(rendered.prompt, add_special_tokens=False)
    assert rendered.input_ids[0] == tokenizer.token_id("<|im_start|>")


_THINK = chosen("reasoning_parsers", "think", "hookline_parsers.reasoning.think:ThinkParser")


def test_reasoning_is_known_where_something_waits_for_its_end(checkpoint: Path, tokenizer: Tokenizer) -> None:
    builder = RequestBuilder(make_plan(checkpoint, plugins=[_GRAMMAR, _THINK]), tokenizer)
    context = ReasoningContext(prompt_tail="<think>\n", template_kwargs={})

    def state(**fields: Any) -> str | None:
        (built,) = builder.build(_request(**fields))
        return None if built.reasoning is None else built.reasoning.state

    assert state(reasoning=context) is None
    assert state(reasoning=context, params={"regex": "a"}) == "open"
    # A grammar alone begins at once; a bound says that there is reasoning, and a raw prompt shows where.
    assert state(params={"regex": "a"}) is None
    assert state(params={"regex": "a", "max_thinking_tokens": 3}) == "possible"
    assert state(prompt="to be <think>", params={"max_thinking_tokens": 3}) == "open"
    assert state(prompt="<think> to be </think>\n", params={"max_thinking_tokens": 3}) == "closed"


def test_reasoning_that_nobody_knows_cannot_be_bounded(builder: RequestBuilder) -> None:
    with pytest.raises(
        RequestError, match=r"max_thinking_tokens needs a reasoning parser.*this server has none"
    ) as caught:
        builder.build(_request(params={"max_thinking_tokens": 3}))
    assert caught.value.param == "max_thinking_tokens"
