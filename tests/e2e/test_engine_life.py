"""The Engine's life around generation: what it imports, dummy weights, other weights, memory given back, chat."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hookline import Engine, SamplingParams
from hookline.errors import RequestError
from tests.factories.checkpoints import make_checkpoint

CheckpointMaker = Callable[[str], Path]
GREEDY = SamplingParams(temperature=0, max_new_tokens=12, ignore_eos=True)
PROMPT = [list(range(30, 60))]


def test_an_engine_imports_neither_http_nor_zmq(checkpoint: CheckpointMaker) -> None:
    program = (
        "import sys\n"
        "from hookline import Engine, SamplingParams\n"
        f"with Engine({str(checkpoint('qwen3'))!r}) as engine:\n"
        "    engine.generate(['x'], SamplingParams(max_new_tokens=2))\n"
        "print([name for name in ('fastapi', 'uvicorn', 'starlette', 'zmq', 'httpx') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert ended.stdout.strip() == "[]"


def test_dummy_weights_need_only_a_config(checkpoint: CheckpointMaker, tmp_path: Path) -> None:
    shutil.copy(checkpoint("qwen3_moe") / "config.json", tmp_path)
    with Engine(tmp_path, load_format="dummy", skip_tokenizer_init=True) as engine:
        outputs = engine.generate(input_ids=PROMPT, sampling_params=GREEDY)
        assert len(outputs[0].output_ids) == 12
        assert outputs[0].text == ""
        with pytest.raises(RequestError, match="skip_tokenizer_init"):
            engine.generate(["text"])


def test_weights_are_replaced_and_a_failed_update_keeps_the_old(checkpoint: CheckpointMaker, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", "qwen3", seed=9)
    broken = tmp_path / "broken"
    shutil.copytree(other, broken)
    (broken / "model.safetensors").write_bytes(b"\x00" * 64)
    with Engine(other, dtype="float32") as engine:
        expected = engine.generate(input_ids=PROMPT, sampling_params=GREEDY)[0].output_ids
    with Engine(checkpoint("qwen3"), dtype="float32") as engine:
        before = engine.generate(input_ids=PROMPT, sampling_params=GREEDY)[0].output_ids
        with pytest.raises(RequestError, match=r"model\.safetensors"):
            engine.update_weights(broken)
        assert engine.generate(input_ids=PROMPT, sampling_params=GREEDY)[0].output_ids == before
        engine.update_weights(other)
        after = engine.generate(input_ids=PROMPT, sampling_params=GREEDY)[0]
    assert before != expected
    assert after.output_ids == expected
    assert after.usage.cached_tokens == 0


def test_memory_is_released_and_resumed(checkpoint: CheckpointMaker) -> None:
    with Engine(checkpoint("qwen3"), dtype="float32") as engine:
        before = engine.generate(input_ids=PROMPT, sampling_params=GREEDY)[0].output_ids
        engine.release_memory()
        assert sorted(engine.server_state()["released_memory"]) == ["kv", "weights"]
        with pytest.raises(RequestError, match="resume_memory first"):
            engine.generate(input_ids=PROMPT, sampling_params=GREEDY)
        engine.resume_memory()
        assert engine.generate(input_ids=PROMPT, sampling_params=GREEDY)[0].output_ids == before


def test_deterministic_outputs_do_not_depend_on_the_batch(checkpoint: CheckpointMaker) -> None:
    prompts = [list(range(start, start + 5 + 7 * start % 50)) for start in range(10, 90, 9)]
    params = SamplingParams(seed=1, max_new_tokens=24, ignore_eos=True)
    with Engine(checkpoint("qwen3_moe"), dtype="float32", deterministic=True) as engine:
        together = engine.generate(input_ids=prompts, sampling_params=params)
        engine.flush_cache()
        alone = [engine.generate(input_ids=[prompt], sampling_params=params)[0] for prompt in prompts]
    assert [output.output_ids for output in together] == [output.output_ids for output in alone]


def test_a_chat_is_split_into_reasoning_and_text() -> None:
    with Engine() as engine:
        answer = engine.chat([{"role": "user", "content": "What is 12 + 30?"}], {"temperature": 0})
        assert "42" in answer.text
        assert answer.reasoning
        assert answer.output.finish_reason.type == "stop"
        deltas = list(engine.stream_chat([{"role": "user", "content": "What is 12 + 30?"}], {"temperature": 0}))
    assert "".join(delta.text for delta in deltas) == answer.text
    assert "".join(delta.reasoning for delta in deltas) == answer.reasoning


def test_a_closed_engine_says_so(checkpoint: CheckpointMaker) -> None:
    engine = Engine(checkpoint("qwen3"))
    engine.close()
    engine.close()
    with pytest.raises(RequestError, match="closed"):
        engine.generate(["x"])
