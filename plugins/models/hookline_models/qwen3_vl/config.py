"""What a checkpoint's config.json says of the vision tower of Qwen3-VL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookline.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hookline.config.model_config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """The tower's sizes, and how its last layer meets the language model."""

    depth: int
    hidden_size: int
    intermediate_size: int
    hidden_act: str
    num_heads: int
    in_channels: int
    patch_size: int
    temporal_patch_size: int
    #: Side of the squares of patches that become one embedding row.
    merge_size: int
    #: Width of an embedding row, and of each of its deepstack parts.
    out_hidden_size: int
    #: Side of the table of learned positions.
    grid_side: int
    #: 0-based blocks whose output is added to the first layers of the language model.
    deepstack_blocks: tuple[int, ...]
    rope_theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """D."""
        return self.hidden_size // self.num_heads

    @property
    def row_size(self) -> int:
        """E: the embedding and the deepstack parts side by side."""
        return self.out_hidden_size * (1 + len(self.deepstack_blocks))

    @staticmethod
    def of(config: ModelConfig) -> VisionConfig:
        """Raises ``ModelError`` for what is missing or cannot be."""
        where = config.path / "config.json"
        values = config.raw.get("vision_config")
        if not isinstance(values, dict):
            raise ModelError(f"{where}: 'vision_config' is missing; a Qwen3-VL checkpoint describes its tower there")
        positions = _size(values, "num_position_embeddings", where)
        vision = VisionConfig(
            depth=_size(values, "depth", where),
            hidden_size=_size(values, "hidden_size", where),
            intermediate_size=_size(values, "intermediate_size", where),
            hidden_act=str(values.get("hidden_act", "gelu_pytorch_tanh")),
            num_heads=_size(values, "num_heads", where),
            in_channels=int(values.get("in_channels", 3)),
            patch_size=_size(values, "patch_size", where),
            temporal_patch_size=_size(values, "temporal_patch_size", where),
            merge_size=_size(values, "spatial_merge_size", where),
            out_hidden_size=_size(values, "out_hidden_size", where),
            grid_side=round(positions**0.5),
            deepstack_blocks=tuple(values.get("deepstack_visual_indexes", ())),
        )
        if vision.grid_side**2 != positions:
            raise ModelError(f"{where}: num_position_embeddings must be a square, it is {positions}")
        if vision.hidden_size % vision.num_heads or vision.head_dim % 4:
            raise ModelError(f"{where}: {vision.num_heads} heads cannot share {vision.hidden_size} in multiples of 4")
        if vision.out_hidden_size != config.hidden_size:
            raise ModelError(
                f"{where}: the tower's out_hidden_size is {vision.out_hidden_size}, the language model's hidden_size "
                f"{config.hidden_size}; they must be equal"
            )
        late = [block for block in vision.deepstack_blocks if not 0 <= block < vision.depth]
        if late or len(vision.deepstack_blocks) > config.num_layers:
            raise ModelError(f"{where}: deepstack_visual_indexes {list(vision.deepstack_blocks)} do not fit")
        return vision


def _size(values: Mapping[str, Any], key: str, where: object) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{where}: vision_config.{key} must be a positive integer, it is {value!r}")
    return value
