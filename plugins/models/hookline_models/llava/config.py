"""What a LLaVA checkpoint's config.json says beyond the language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookline.errors import ModelError

if TYPE_CHECKING:
    from hookline.config.model_config import ModelConfig

#: ``vision_config.model_type`` -> (has a class token before the patches, default epsilon, default activation).
_TOWERS: Mapping[str, tuple[bool, float, str]] = {
    "clip_vision_model": (True, 1e-5, "quick_gelu"),
    "siglip_vision_model": (False, 1e-6, "gelu_pytorch_tanh"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LlavaConfig:
    """The tower, and which of its states the projector takes."""

    #: Whether a class token stands before the patches (CLIP); SigLIP has none, and a bias on its patches instead.
    has_class_token: bool
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    image_size: int
    patch_size: int
    hidden_act: str
    eps: float
    #: Numbers of states, 0 for the embeddings and n for the output of the n-th layer.
    feature_layers: tuple[int, ...]
    #: Whether the first state of a picture is left out ("default"), as it is the class token's.
    drops_first: bool
    projector_act: str
    projector_bias: bool
    image_token_id: int

    @property
    def grid_side(self) -> int:
        """Patches along each side of a picture."""
        return self.image_size // self.patch_size

    @property
    def num_states(self) -> int:
        """States of a picture in the tower."""
        return self.grid_side**2 + self.has_class_token

    @property
    def num_rows(self) -> int:
        """N: embedding rows of a picture."""
        return self.num_states - self.drops_first

    @staticmethod
    def of(config: ModelConfig) -> LlavaConfig:
        """Raises ``ModelError`` for what is missing or not supported."""
        where = config.path / "config.json"
        vision = config.raw.get("vision_config")
        if not isinstance(vision, Mapping):
            raise ModelError(f"{where}: 'vision_config' is missing; a LLaVA checkpoint describes its tower there")
        kind = str(vision.get("model_type"))
        if kind not in _TOWERS:
            raise ModelError(f"{where}: a tower of type '{kind}' is not supported (supported: {', '.join(_TOWERS)})")
        has_class_token, eps, act = _TOWERS[kind]
        strategy = config.raw.get("vision_feature_select_strategy", "default")
        if strategy not in ("default", "full"):
            raise ModelError(f"{where}: vision_feature_select_strategy is '{strategy}'; 'default' and 'full' are known")
        depth = _size(vision, "num_hidden_layers", where)
        return LlavaConfig(
            has_class_token=has_class_token,
            hidden_size=_size(vision, "hidden_size", where),
            intermediate_size=_size(vision, "intermediate_size", where),
            num_layers=depth,
            num_heads=_size(vision, "num_attention_heads", where),
            image_size=_size(vision, "image_size", where),
            patch_size=_size(vision, "patch_size", where),
            hidden_act=str(vision.get("hidden_act", act)),
            eps=float(vision.get("layer_norm_eps", eps)),
            feature_layers=_layers(config.raw.get("vision_feature_layer", -2), depth, where),
            drops_first=strategy == "default",
            projector_act=str(config.raw.get("projector_hidden_act", "gelu")),
            projector_bias=bool(config.raw.get("multimodal_projector_bias", True)),
            image_token_id=_token(config.raw, where),
        )


def _layers(value: Any, depth: int, where: object) -> tuple[int, ...]:
    layers = value if isinstance(value, list) else [value]
    if not layers or not all(isinstance(layer, int) and -depth - 1 <= layer <= depth for layer in layers):
        raise ModelError(f"{where}: vision_feature_layer is {value!r}; the tower has states {-depth - 1} to {depth}")
    return tuple(layer % (depth + 1) for layer in layers)


def _token(raw: Mapping[str, Any], where: object) -> int:
    found = raw.get("image_token_index", raw.get("image_token_id"))
    if not isinstance(found, int):
        raise ModelError(f"{where}: 'image_token_index' must be a token id, it is {found!r}")
    return found


def _size(values: Mapping[str, Any], key: str, where: object) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{where}: vision_config.{key} must be a positive integer, it is {value!r}")
    return value
