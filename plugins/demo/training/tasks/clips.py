"""Questions about a short clip of one moving shape."""

from __future__ import annotations

from training.draw import Draw
from training.items import Item, question, with_article
from training.scenes import Clip, Sizes, draw_clip

CLIP = "{clip|video|film}"

DIRECTION = [
    "{Which|What} {direction|way} does the {shape|object|figure} {move|go|travel}{ in the clip| in the video|}?",
    "{In|To|Towards} which {direction|side} does the {shape|object|figure} {move|go|travel}?",
    "{Where|How} does the {shape|object|figure} {move|go|travel}{ in the clip| in the video|}?",
    "{What is|Tell me|Name} the direction of {the|this} {movement|motion}.",
    "Where is the {shape|object|figure} {moving|going}{ in the clip| in the video|}?",
]
COLOUR = [
    "{What|Which} {colour|color} is the {moving |}{shape|object|figure}{ in the clip| in the video|}?",
    f"{{What|Which}} {{colour|color}} does the {{shape|object|figure}} in the {CLIP} have?",
    f"{{Name|Tell me}} the {{colour|color}} of the {{shape|object|figure}} in the {CLIP}.",
]
SHAPE = [
    f"{{What|Which}} {{shape|figure}} {{moves|is moving|do you see}} in the {CLIP}?",
    f"{{What|Which}} {{shape|figure}} {{is|can be seen}} in the {CLIP}?",
    "{What|Which} shape does the moving {object|thing|figure} have?",
]
DESCRIBE = [
    f"What {{happens|is happening|do you see|can you see}} in {{the|this}} {CLIP}?",
    f"{{Describe|Explain|Summarize}} {{the|this}} {CLIP}.",
    f"What does {{the|this}} {CLIP} show?",
]


def heading(direction: str) -> str:
    return direction if direction in ("up", "down") else f"to the {direction}"


class ClipTasks:
    """The clip task, drawing in the given frame sizes (or in any, if none are given)."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        self._sizes = sizes

    def clip(self, draw: Draw) -> Item:
        clip = draw.until("clip", lambda: draw_clip(draw.rng, self._sizes), Clip.key)
        shape = clip.shape
        summary = f"{with_article(shape.name)} moves {heading(clip.direction)}."
        summary = summary[0].upper() + summary[1:]
        match draw.rng.choice(("direction", "direction", "colour", "shape", "describe")):
            case "direction":
                text = draw.phrase("clip_direction", DIRECTION)
                reply = f"The {shape.kind} moves {heading(clip.direction)}."
            case "colour":
                text = draw.phrase("clip_colour", COLOUR)
                reply = f"The {shape.kind} is {shape.colour}."
            case "shape":
                text = draw.phrase("clip_shape", SHAPE)
                reply = f"The shape is a {shape.kind}."
            case _:
                text = draw.phrase("clip_describe", DESCRIBE)
                return question("clip", text, summary, "I follow the shape.", media=[clip])
        return question("clip", text, reply, summary, media=[clip])
