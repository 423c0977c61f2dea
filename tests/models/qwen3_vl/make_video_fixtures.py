"""Write what transformers' video processor makes of the clips, for tests on machines without torchvision.

    python -m tests.models.qwen3_vl.make_video_fixtures [DIRECTORY]

Needs torchvision. Versions of transformers without ``cap_pixels_per_frame`` write the uncapped half only.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision  # type: ignore[import-not-found]
import transformers
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from tests.factories.clips import CLIP_CASES, FRAMES, MAX_VIDEO_TOKENS, SIZE, ClipCase, clip_frames

FIXTURES = Path(__file__).with_name("fixtures")


def main(directory: Path) -> None:
    """One file for each setting of the cap."""
    directory.mkdir(parents=True, exist_ok=True)
    knows_cap = "cap_pixels_per_frame" in Qwen3VLVideoProcessor.valid_kwargs.__annotations__
    for capped in (False, True) if knows_cap else (False,):
        own: dict[str, Any] = {"max_video_tokens": MAX_VIDEO_TOKENS} if knows_cap else {}
        settings: dict[str, Any] = {"size": dict(SIZE), **FRAMES, **own}
        processor = Qwen3VLVideoProcessor(**settings)
        arrays: dict[str, Any] = {
            "versions": np.array([transformers.__version__, torch.__version__, torchvision.__version__])
        }
        call: dict[str, Any] = {"cap_pixels_per_frame": capped} if knows_cap else {}
        for case in CLIP_CASES:
            arrays |= {f"{case.name}.{key}": value for key, value in _outputs(processor, case, call).items()}
        file = directory / f"video_{'capped' if capped else 'uncapped'}.npz"
        np.savez_compressed(file, **arrays)
        sys.stdout.write(f"{file}: {file.stat().st_size} bytes, versions {arrays['versions'].tolist()}\n")
    if not knows_cap:
        sys.stdout.write(f"transformers {transformers.__version__} does not know cap_pixels_per_frame\n")


def _outputs(processor: Any, case: ClipCase, call: dict[str, Any]) -> dict[str, Any]:
    metadata = {
        "total_num_frames": case.shape[0],
        "fps": case.fps,
        "frames_indices": list(range(case.shape[0])),
    }
    output = processor(
        videos=[clip_frames(case.shape)],
        video_metadata=[metadata],
        do_sample_frames=case.sampled,
        return_metadata=True,
        return_tensors="pt",
        **call,
    )
    values = output["pixel_values_videos"].numpy()
    patches = np.round((values + 1) * 127.5).astype(np.uint8)
    # Bytes say all that the normalised values do.
    np.testing.assert_allclose(patches.astype(np.float32) / 127.5 - 1, values, rtol=0, atol=1e-6)
    return {
        "patches": patches,
        "grid": output["video_grid_thw"].numpy(),
        "indices": np.asarray(output["video_metadata"][0].frames_indices),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES)
