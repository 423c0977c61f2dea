"""ModelConfig: what a checkpoint's JSON files say, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hookline.config.rope_config import RopeConfig
from hookline.config.text_defaults import with_defaults
from hookline.errors import ModelError

_DTYPES = ("float32", "bfloat16", "float16")
#: Keys of generation_config.json that are sampling fields of ours under the same name.
_GENERATION_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True, kw_only=True)
class MoEConfig:
    """Mixture-of-experts part of a model."""

    num_experts: int
    #: Experts that each token visits.
    top_k: int
    intermediate_size: int
    #: Whether the weights of the chosen experts are divided by their sum.
    norm_topk_prob: bool
    #: Layers that have experts; the others have one MLP.
    layers: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingConfig:
    """How the checkpoint wants its embeddings made (sentence-transformers' modules.json)."""

    #: Name of a pooler: "last", "cls" or "mean".
    pooling: str
    normalize: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A checkpoint's configuration. Sizes are those of the text model."""

    path: Path
    architectures: tuple[str, ...]
    model_type: str
    #: config.json as a whole, and the part of it that describes the text model (the same unless nested).
    raw: Mapping[str, Any]
    text: Mapping[str, Any]
    hidden_size: int
    #: Width of the MLP of layers without experts.
    intermediate_size: int
    num_layers: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    #: The longest text that the model was made for, in tokens.
    context_len: int
    rms_norm_eps: float
    hidden_act: str
    attention_bias: bool
    mlp_bias: bool
    tie_word_embeddings: bool
    #: Dtype of the weights: "float32", "bfloat16" or "float16".
    dtype: str
    rope: RopeConfig
    #: [num_layers] sliding window in tokens, or ``None`` for a layer that sees everything.
    layer_windows: tuple[int | None, ...]
    moe: MoEConfig | None = None
    #: Tokens that end a text.
    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    #: Sampling defaults of generation_config.json, named as in ``SamplingParams``.
    generation_defaults: Mapping[str, float | int] = field(default_factory=dict)
    pooling: PoolingConfig | None = None
    #: Sizes to which embeddings may be cut; empty: any size if ``is_matryoshka``.
    matryoshka_dimensions: tuple[int, ...] = ()
    is_matryoshka: bool = False
    #: ``quantization_config`` of the checkpoint, if its weights are quantised.
    quantization: Mapping[str, Any] | None = None

    @property
    def position_planes(self) -> int:
        """P: the number of position planes, 1 or 3 for M-RoPE."""
        return self.rope.position_planes

    @staticmethod
    def load(path: Path | str) -> ModelConfig:
        """Read the checkpoint in directory ``path``; raises ``ModelError`` saying what is missing or wrong."""
        path = Path(path)
        if not path.is_dir():
            raise ModelError(f"no checkpoint at '{path}': it is not a directory; give one that has a config.json")
        file = path / "config.json"
        if not file.is_file():
            raise ModelError(f"no config.json in '{path}'; a checkpoint directory must have one")
        return _parse(path, _read_json(file))


def _parse(path: Path, raw: Mapping[str, Any]) -> ModelConfig:
    where = str(path / "config.json")
    text = raw.get("text_config") or raw
    if not isinstance(text, Mapping):
        raise ModelError(f"{where}: text_config must be an object, not {type(text).__name__}")
    if text is not raw:
        text = with_defaults(text)
    architectures = raw.get("architectures")
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise ModelError(f"{where}: 'architectures' must list the model's class name, it is {architectures!r}")
    if not architectures:
        raise ModelError(f"{where}: 'architectures' is empty; it must list the model's class name")

    hidden_size = _size(text, "hidden_size", where)
    num_q_heads = _size(text, "num_attention_heads", where)
    num_kv_heads = _size(text, "num_key_value_heads", where, default=num_q_heads)
    if num_q_heads % num_kv_heads:
        raise ModelError(f"{where}: {num_q_heads} attention heads cannot share {num_kv_heads} key-value heads evenly")
    head_dim = _size(text, "head_dim", where, default=hidden_size // num_q_heads)
    num_layers = _size(text, "num_hidden_layers", where)
    context_len = _size(text, "max_position_embeddings", where)
    rope = RopeConfig.parse(text, head_dim=head_dim, context_len=context_len, where=where)
    if rope.rope_type == "yarn" and rope.original_context_len is not None:
        # Checkpoints with yarn state either the stretched or the original length as their maximum.
        context_len = max(context_len, int(rope.original_context_len * rope.factor))
    generation = _generation(path)
    return ModelConfig(
        path=path,
        architectures=tuple(architectures),
        model_type=str(raw.get("model_type", "")),
        raw=raw,
        text=text,
        hidden_size=hidden_size,
        intermediate_size=_size(text, "intermediate_size", where, default=4 * hidden_size),
        num_layers=num_layers,
        num_q_heads=num_q_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        vocab_size=_size(text, "vocab_size", where),
        context_len=context_len,
        rms_norm_eps=float(text.get("rms_norm_eps", 1e-6)),
        hidden_act=str(text.get("hidden_act", "silu")),
        attention_bias=bool(text.get("attention_bias", False)),
        mlp_bias=bool(text.get("mlp_bias", False)),
        # The outer value is the one that decides whether a head was saved.
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        dtype=_dtype(raw, text, where),
        rope=rope,
        layer_windows=_windows(text, num_layers, where),
        moe=_moe(text, num_layers, where),
        eos_token_ids=_eos(raw, text, generation, where),
        bos_token_id=_first(("bos_token_id",), generation, text, raw),
        pad_token_id=_first(("pad_token_id",), generation, text, raw),
        generation_defaults=_sampling_defaults(generation, path),
        pooling=_pooling(path),
        matryoshka_dimensions=tuple(raw.get("matryoshka_dimensions") or ()),
        is_matryoshka=bool(raw.get("is_matryoshka", False)) or bool(raw.get("matryoshka_dimensions")),
        quantization=raw.get("quantization_config") or text.get("quantization_config"),
    )


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise ModelError(f"cannot read '{file}': {exc}") from exc
    if not isinstance(value, dict):
        raise ModelError(f"'{file}' must hold a JSON object, not {type(value).__name__}")
    return value


def _size(values: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    value = values.get(key)
    if value is None:
        value = default
    if value is None:
        raise ModelError(f"{where}: '{key}' is missing")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{where}: '{key}' must be a positive integer, it is {value!r}")
    return value


def _first(keys: tuple[str, ...], *sources: Mapping[str, Any]) -> Any:
    """The first value that is set, by source and then by key."""
    for source in sources:
        for key in keys:
            if source.get(key) is not None:
                return source[key]
    return None


def _dtype(raw: Mapping[str, Any], text: Mapping[str, Any], where: str) -> str:
    name = _first(("dtype", "torch_dtype"), raw, text)
    if name is None:
        return "float32"
    name = str(name).removeprefix("torch.")
    if name not in _DTYPES:
        raise ModelError(f"{where}: weights of dtype '{name}' are not supported (supported: {', '.join(_DTYPES)})")
    return name


def _windows(text: Mapping[str, Any], num_layers: int, where: str) -> tuple[int | None, ...]:
    window = text.get("sliding_window")
    # Families with the switch (Qwen) carry a window size even when they do not use it.
    if window is None or not text.get("use_sliding_window", True):
        return (None,) * num_layers
    window = _size(text, "sliding_window", where)
    kinds = text.get("layer_types")
    if kinds is None:
        first = int(text.get("max_window_layers") or 0)
        return tuple(window if layer >= first else None for layer in range(num_layers))
    if len(kinds) != num_layers:
        raise ModelError(f"{where}: 'layer_types' lists {len(kinds)} layers, 'num_hidden_layers' is {num_layers}")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _moe(text: Mapping[str, Any], num_layers: int, where: str) -> MoEConfig | None:
    # transformers 5.20 renamed num_experts on disk; published checkpoints have the older word.
    num_experts = _first(("num_experts", "num_local_experts"), text)
    if not num_experts:
        return None
    top_k = _size(text, "num_experts_per_tok", where)
    if top_k > num_experts:
        raise ModelError(f"{where}: each token cannot visit {top_k} of {num_experts} experts")
    step = int(text.get("decoder_sparse_step", 1))
    dense = set(text.get("mlp_only_layers") or ())
    return MoEConfig(
        num_experts=int(num_experts),
        top_k=top_k,
        intermediate_size=_size(text, "moe_intermediate_size", where),
        norm_topk_prob=bool(text.get("norm_topk_prob", False)),
        layers=frozenset(i for i in range(num_layers) if i not in dense and step > 0 and (i + 1) % step == 0),
    )


def _generation(path: Path) -> Mapping[str, Any]:
    file = path / "generation_config.json"
    return _read_json(file) if file.is_file() else {}


def _eos(raw: Mapping[str, Any], text: Mapping[str, Any], generation: Mapping[str, Any], where: str) -> tuple[int, ...]:
    value = _first(("eos_token_id",), generation, text, raw)
    if value is None:
        return ()
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in ids):
        raise ModelError(f"{where}: 'eos_token_id' must be a token id or a list of them, it is {value!r}")
    return tuple(dict.fromkeys(ids))


def _sampling_defaults(generation: Mapping[str, Any], path: Path) -> Mapping[str, float | int]:
    found: dict[str, float | int] = {}
    for key in _GENERATION_FIELDS:
        value = generation.get(key)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ModelError(f"{path / 'generation_config.json'}: '{key}' must be a number, it is {value!r}")
        found[key] = value
    # transformers writes 0 for "off", our word is -1.
    if found.get("top_k") == 0:
        found["top_k"] = -1
    if generation.get("do_sample") is False:
        # The checkpoint asks for greedy decoding in so many words.
        found["temperature"] = 0.0
    return found


def _pooling(path: Path) -> PoolingConfig | None:
    """Follow sentence-transformers' modules.json; ``None`` without one."""
    file = path / "modules.json"
    if not file.is_file():
        return None
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
        folders = [str(module.get("path", "")) for module in modules]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ModelError(f"cannot read '{file}': {exc}") from exc
    unknown = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if unknown:
        raise ModelError(f"'{file}': modules {sorted(unknown)} are not supported (Transformer, Pooling, Normalize are)")
    if "Pooling" not in kinds:
        return None
    config_file = path / folders[kinds.index("Pooling")] / "config.json"
    return PoolingConfig(pooling=_pooling_mode(config_file), normalize="Normalize" in kinds)


def _pooling_mode(file: Path) -> str:
    values = _read_json(file)
    words = {"lasttoken": "last", "cls": "cls", "mean": "mean"}
    modes = {
        "lasttoken": values.get("pooling_mode_lasttoken"),
        "cls": values.get("pooling_mode_cls_token"),
        "mean": values.get("pooling_mode_mean_tokens"),
    }
    chosen = [mode for mode, is_set in modes.items() if is_set]
    if isinstance(values.get("pooling_mode"), str):
        chosen = [values["pooling_mode"]]
    if len(chosen) != 1 or chosen[0] not in words:
        raise ModelError(f"'{file}': exactly one of last-token, CLS or mean pooling is supported, it asks for {values}")
    return words[chosen[0]]
