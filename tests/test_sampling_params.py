"""SamplingParams: the bounds of every field, and what is said about a value outside them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hookline.errors import RequestError
from hookline.sampling_params import SamplingParams

ALLOWED: dict[str, list[Any]] = {
    "max_new_tokens": [0, 1, None],
    "min_new_tokens": [0, 128],
    "temperature": [0, 0.0, 1e-9, 100.0],
    "top_p": [1e-9, 0.5, 1, 1.0],
    "top_k": [-1, 1, 10**9],
    "min_p": [0, 0.0, 1.0],
    "frequency_penalty": [-2, 0, 2.0],
    "presence_penalty": [-2.0, 2],
    "repetition_penalty": [1e-6, 2.0],
    "n": [1, 128],
    "seed": [None, 0, -(2**63), 2**63 - 1],
    "stream_interval": [None, 1],
    "stop": [None, "a", ["a", "b"], ("a",), []],
    "stop_regex": ["a+", None],
    "stop_token_ids": [None, [0, 5], {3}],
    "logit_bias": [None, {}, {"5": 1}, {5: -100.0}, {5: math.inf}],
}
REFUSED: dict[str, list[Any]] = {
    "max_new_tokens": [-1, 1.5, True, "3", 2**31],
    "min_new_tokens": [-1, 129, None],
    "temperature": [-0.1, math.nan, math.inf, "1", None, True, 10**400],
    "top_p": [0, 1.0001, math.nan, -1],
    "top_k": [0, -2, 1.0, True, 2**31],
    "min_p": [-0.1, 1.1, math.nan],
    "frequency_penalty": [-2.1, 2.1, math.nan, None],
    "presence_penalty": [2.5, math.inf],
    "repetition_penalty": [0, -1, 2.1, math.nan],
    "n": [0, 129, 1.0],
    "seed": [2**63, -(2**63) - 1, 0.5, True],
    "stream_interval": [0, -1, 2**31],
    "stop": [5, [""], ["a", 1], ["a"] * 10_000, "x" * 1025],
    "stop_regex": [[None]],
    "stop_token_ids": [[-1], ["a"], 5, [True]],
    "logit_bias": [{"a": 1}, {-1: 1}, {1: math.nan}, {1: "x"}, {1: True}, {1: 10**400}, [1]],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in ALLOWED.items() for value in values])
def test_values_within_bounds_are_taken(field: str, value: Any) -> None:
    SamplingParams(**{field: value})


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values])
def test_values_outside_bounds_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=field) as error:
        SamplingParams(**{field: value})
    assert error.value.param == field
    assert error.value.status_code == 400


def test_only_one_grammar_may_be_given() -> None:
    assert SamplingParams(regex="a").grammar == ("regex", "a")
    assert SamplingParams().grammar is None
    with pytest.raises(RequestError, match="only one of json_schema, json_object, regex, ebnf, choice, structural_tag"):
        SamplingParams(regex="a", ebnf="b")


def test_single_strings_and_text_keys_are_normalised() -> None:
    given: dict[str, Any] = {"stop": "END", "stop_token_ids": [4, 4, 2], "logit_bias": {"7": 1}}
    params = SamplingParams(**given)
    assert params.stop == ("END",)
    assert params.stop_token_ids == (4, 2)
    assert params.logit_bias == {7: 1.0}


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"temperature": 0}, True), ({"temperature": 1e-7}, True), ({"top_k": 1}, True), ({"temperature": 1e-6}, False)],
)
def test_zero_temperature_and_one_candidate_are_greedy(values: dict[str, Any], expected: bool) -> None:
    assert SamplingParams(**values).is_greedy is expected


def test_unknown_fields_name_the_nearest() -> None:
    assert SamplingParams.from_dict({"temperature": 0.5}).temperature == 0.5
    with pytest.raises(RequestError, match="unknown sampling parameter 'temprature'; did you mean 'temperature'"):
        SamplingParams.from_dict({"temprature": 0.5})


def test_a_changed_copy_is_checked_again() -> None:
    params = SamplingParams(max_new_tokens=5)
    assert params.replace(max_new_tokens=9).max_new_tokens == 9
    with pytest.raises(RequestError):
        params.replace(min_new_tokens=6)
