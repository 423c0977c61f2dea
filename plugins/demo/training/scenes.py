"""Pictures of coloured shapes and short clips of a moving one: their content and their pixels."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

KINDS = ("circle", "square", "triangle", "star", "diamond", "cross")
COLOURS: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (220, 20, 20), (200, 30, 40)),
    "green": ((0, 128, 0), (0, 200, 0), (0, 255, 0), (40, 160, 60)),
    "blue": ((0, 0, 255), (30, 60, 230), (20, 40, 180)),
    "yellow": ((255, 255, 0), (245, 225, 40), (255, 235, 0)),
    "orange": ((255, 165, 0), (255, 140, 0), (250, 130, 20)),
    "purple": ((128, 0, 128), (150, 30, 200), (110, 20, 160)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 150, 200)),
    "black": ((0, 0, 0), (20, 20, 20)),
    "white": ((255, 255, 255), (245, 245, 245)),
}
LIGHT: tuple[RGB, ...] = ((255, 255, 255), (255, 255, 255), (240, 240, 240), (225, 230, 235))
DARK: tuple[RGB, ...] = ((45, 45, 50), (60, 65, 70))
GREY: tuple[RGB, ...] = ((128, 128, 128), (150, 150, 150))
CELLS = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}

#: A list of (width, height) that a batch draws its pictures in, so that grids repeat in it.
Sizes = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    kind: str
    colour: str
    rgb: RGB
    x: float  #: centre, as a fraction of the width
    y: float
    radius: float  #: as a fraction of the smaller side
    col: int
    row: int

    @property
    def name(self) -> str:
        return f"{self.colour} {self.kind}"

    @property
    def place(self) -> str:
        return CELLS[self.row][self.col]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One picture. Shapes are in reading order: rows from the top, then columns."""

    width: int
    height: int
    background: RGB
    shapes: tuple[Shape, ...]
    plain: str = ""  #: the colour of a picture without shapes

    def key(self) -> str:
        """What identifies a scene: its arrangement, not its pixels."""
        if not self.shapes:
            return f"plain {self.plain} {self.background}"
        return "; ".join(f"{s.name} {s.row}{s.col}" for s in self.shapes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One shape that moves in a straight line."""

    width: int
    height: int
    background: RGB
    shape: Shape
    direction: str
    travel: float  #: distance, as a fraction of the side
    frame_indices: tuple[int, ...]  #: of the source clip
    fps: float

    def key(self) -> str:
        return f"{self.shape.name} {self.direction} {self.shape.row}{self.shape.col}"


def draw_size(rng: random.Random) -> tuple[int, int]:
    """A picture size, mostly near the model's own resolution, sometimes much larger."""
    if rng.random() < 0.15:
        return rng.choice(((224, 224), (256, 256), (320, 240), (240, 320), (400, 300), (300, 300)))
    width, height = rng.randint(2, 6), rng.randint(2, 6)
    if max(width, height) > 2 * min(width, height):
        height = width
    return max(64, width * 32 + rng.randint(-12, 12)), max(64, height * 32 + rng.randint(-12, 12))


def colour_rgb(rng: random.Random, colour: str) -> RGB:
    base = rng.choice(COLOURS[colour])
    if rng.random() < 0.4:
        return base
    red, green, blue = (min(255, max(0, channel + rng.randint(-12, 12))) for channel in base)
    return red, green, blue


def draw_scene(rng: random.Random, sizes: Sizes | None, num_shapes: int | None = None) -> Scene:
    """A picture of one to four shapes (or as many as asked for) that do not touch."""
    width, height = rng.choice(sizes) if sizes else draw_size(rng)
    count = num_shapes if num_shapes is not None else rng.choice((1, 2, 2, 3, 3, 4, 4))
    if min(width, height) < 80:
        count = min(count, 2)
    while True:
        shapes = _place_shapes(rng, count, width, height)
        if shapes is not None:
            break
    colours = {shape.colour for shape in shapes}
    return Scene(width=width, height=height, background=_background(rng, colours), shapes=shapes)


def plain_scene(rng: random.Random, sizes: Sizes | None) -> Scene:
    width, height = rng.choice(sizes) if sizes else draw_size(rng)
    colour = rng.choice(list(COLOURS))
    rgb = colour_rgb(rng, colour)
    return Scene(width=width, height=height, background=rgb, shapes=(), plain=colour)


def draw_clip(rng: random.Random, sizes: Sizes | None) -> Clip:
    width, height = rng.choice(sizes) if sizes else draw_clip_size(rng)
    direction = rng.choice(list(DIRECTIONS))
    dx, dy = DIRECTIONS[direction]
    radius, travel = rng.uniform(0.10, 0.17), rng.uniform(0.35, 0.55)
    start_x = _clip_start(rng, dx, travel)
    start_y = _clip_start(rng, dy, travel)
    colour = rng.choice(list(COLOURS))
    shape = Shape(
        kind=rng.choice(KINDS),
        colour=colour,
        rgb=colour_rgb(rng, colour),
        x=start_x,
        y=start_y,
        radius=radius,
        col=int(start_x * 3),
        row=int(start_y * 3),
    )
    num_frames = rng.choice((4, 4, 5, 6, 6, 7, 8))
    fps = float(rng.choice((8, 10, 12, 15, 24, 25, 30)))
    total = max(num_frames, round(num_frames / 2 * fps))
    indices = tuple(round(i * (total - 1) / (num_frames - 1)) for i in range(num_frames))
    return Clip(
        width=width,
        height=height,
        background=_background(rng, {colour}),
        shape=shape,
        direction=direction,
        travel=travel,
        frame_indices=indices,
        fps=fps,
    )


def draw_clip_size(rng: random.Random) -> tuple[int, int]:
    return rng.choice(((64, 64), (96, 96), (128, 96), (96, 64), (64, 96), (128, 128)))


def render(scene: Scene) -> Image.Image:
    image = Image.new("RGB", (scene.width, scene.height), scene.background)
    canvas = ImageDraw.Draw(image)
    for shape in scene.shapes:
        _draw_shape(canvas, shape, scene.width, scene.height, shape.x, shape.y)
    return image


def render_frames(clip: Clip) -> list[Image.Image]:
    dx, dy = DIRECTIONS[clip.direction]
    last = clip.frame_indices[-1]
    frames = []
    for index in clip.frame_indices:
        moved = clip.travel * index / last
        image = Image.new("RGB", (clip.width, clip.height), clip.background)
        x, y = clip.shape.x + dx * moved, clip.shape.y + dy * moved
        _draw_shape(ImageDraw.Draw(image), clip.shape, clip.width, clip.height, x, y)
        frames.append(image)
    return frames


def _clip_start(rng: random.Random, step: int, travel: float) -> float:
    if step == 0:
        return rng.uniform(0.2, 0.8)
    low, high = 0.15, 0.85 - travel
    start = rng.uniform(low, high)
    return start if step > 0 else 1.0 - start


def _background(rng: random.Random, colours: set[str]) -> RGB:
    if {"black", "white"} <= colours:
        return rng.choice(GREY)
    if "white" in colours:
        return rng.choice(DARK + GREY)
    if "black" in colours or rng.random() < 0.8:
        return rng.choice(LIGHT)
    return rng.choice(DARK + GREY)


def _place_shapes(rng: random.Random, count: int, width: int, height: int) -> tuple[Shape, ...] | None:
    side = min(width, height)
    shapes: list[Shape] = []
    for cell in sorted(rng.sample(range(9), count)):
        row, col = divmod(cell, 3)
        radius = rng.uniform(0.09, 0.11) if rng.random() < 0.5 else rng.uniform(0.15, 0.18)
        if count == 1 and rng.random() < 0.5:
            radius = rng.uniform(0.18, 0.4 if cell == 4 else 0.25)
        x = _centre(rng, col, radius * side / width)
        y = _centre(rng, row, radius * side / height)
        colour = rng.choice(list(COLOURS))
        shape = Shape(
            kind=rng.choice(KINDS),
            colour=colour,
            rgb=colour_rgb(rng, colour),
            x=x,
            y=y,
            radius=radius,
            col=col,
            row=row,
        )
        for other in shapes:
            gap = math.hypot((x - other.x) * width, (y - other.y) * height)
            if gap < 1.15 * (radius + other.radius) * side:
                return None
        shapes.append(shape)
    return tuple(shapes)


def _centre(rng: random.Random, cell: int, reach: float) -> float:
    """A coordinate well inside its third of the picture, the shape kept in the picture."""
    centre = (cell + 0.5) / 3 + rng.uniform(-0.07, 0.07)
    return min(max(centre, reach + 0.01), 0.99 - reach) if reach < 0.49 else 0.5


def _draw_shape(canvas: ImageDraw.ImageDraw, shape: Shape, width: int, height: int, x: float, y: float) -> None:
    centre_x, centre_y, r = x * width, y * height, shape.radius * min(width, height)
    box = (centre_x - r, centre_y - r, centre_x + r, centre_y + r)
    match shape.kind:
        case "circle":
            canvas.ellipse(box, fill=shape.rgb)
        case "square":
            inset = 0.12 * r
            canvas.rectangle((box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset), fill=shape.rgb)
        case "cross":
            arm = 0.32 * r
            canvas.rectangle((box[0], centre_y - arm, box[2], centre_y + arm), fill=shape.rgb)
            canvas.rectangle((centre_x - arm, box[1], centre_x + arm, box[3]), fill=shape.rgb)
        case _:
            canvas.polygon(_corners(shape.kind, centre_x, centre_y, r), fill=shape.rgb)


def _corners(kind: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    if kind == "triangle":
        return [(x, y - r), (x + 0.95 * r, y + 0.8 * r), (x - 0.95 * r, y + 0.8 * r)]
    if kind == "diamond":
        return [(x, y - r), (x + 0.75 * r, y), (x, y + r), (x - 0.75 * r, y)]
    points = []
    for i in range(10):
        reach = r if i % 2 == 0 else 0.42 * r
        angle = math.pi * (i / 5 - 0.5)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points
