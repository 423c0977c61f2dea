"""Usage: counts over prompts and choices."""

from __future__ import annotations

from hookline.messages.outputs import RequestStats
from hookline_api.openai.usage import Usage


def test_media_that_were_not_encoded_again_are_told() -> None:
    usage = Usage()
    usage.update(0, 0, RequestStats(100, 40, 3, media_items=2, media_reused=1))
    usage.update(0, 1, RequestStats(100, 99, 5, media_items=2, media_reused=2))
    usage.update(1, 0, RequestStats(10, 0, 1, media_items=1, media_reused=0))
    body = usage.body()
    assert (body["prompt_tokens"], body["completion_tokens"]) == (110, 9)
    details = body["prompt_tokens_details"]
    assert (details["media_items"], details["reused_media_items"], details["cached_tokens"]) == (3, 1, 40)


def test_a_text_has_no_media_in_its_usage() -> None:
    usage = Usage()
    usage.update(0, 0, RequestStats(100, 40, 3))
    assert usage.body()["prompt_tokens_details"] == {"cached_tokens": 40}
