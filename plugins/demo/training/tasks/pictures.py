"""Questions about one picture, and about two."""

from __future__ import annotations

from collections.abc import Callable

from training.draw import Draw
from training.items import Item, join_words, question, with_article
from training.scenes import CELLS, COLOURS, KINDS, Scene, Shape, Sizes, draw_scene, plain_scene

SHAPE = "{shape|figure|object}"
PICTURE = "{picture|image|photo}"
SHOWN = "{ in the picture| in the image| here| in this picture|}"

COLOUR_OF_KIND = [
    f"{{What|Which}} colour is the <kind>{SHOWN}?",
    f"{{What|Which}} color is the <kind>{SHOWN}?",
    "{What is|What's|Tell me|Name|Give me} the {colour|color} of the <kind>.",
    "The <kind> has {what|which} {colour|color}?",
    "{Say|Tell me} {what|which} {colour|color} the <kind> {is|has}.",
    "How is the <kind> coloured?",
]
COLOUR_AT_PLACE = [
    f"{{What|Which}} {{colour|color}} is the {SHAPE} at the <place>?",
    f"{{Name|Tell me|Give me}} the {{colour|color}} of the {SHAPE} at the <place>.",
]
SHAPE_OF_COLOUR = [
    f"{{What|Which}} {SHAPE} is <colour>{SHOWN}?",
    f"{{What|Which}} {{shape|kind of shape|figure}} is the <colour> one{SHOWN}?",
    "{What is|What's|Name|Tell me} the <colour> {shape|figure|object|thing}.",
    f"{{What|Which}} shape does the <colour> {{figure|object|thing}} have{SHOWN}?",
    "The <colour> {one|object|thing} has which shape?",
]
SHAPE_AT_PLACE = [
    f"{{What|Which}} shape is at the <place>{SHOWN}?",
    "{Name|Tell me} the shape at the <place>.",
    "What {is|do you see|can be seen} at the <place>?",
]
COUNT_ALL = [
    f"How many {{shapes|figures|objects}} are {{there|shown|visible}}{SHOWN}?",
    f"How many {{shapes|figures|objects}} {{do you see|can you see|are}}{SHOWN}?",
    f"Count the {{shapes|figures|objects}}{SHOWN}.",
    "{What is|Give me|Tell me} the number of {shapes|figures|objects}.",
]
COUNT_KIND = [
    f"How many <kind>s are {{there|shown|visible}}{SHOWN}?",
    f"How many <kind>s {{do you see|can you see|are}}{SHOWN}?",
    f"Count the <kind>s{SHOWN}.",
    "{What is|Give me|Tell me} the number of <kind>s.",
]
COUNT_COLOUR = [
    f"How many <colour> {{shapes|figures|objects}} are {{there|shown|visible}}{SHOWN}?",
    f"How many {{shapes|figures|objects|of the shapes}} are <colour>{SHOWN}?",
    f"Count the <colour> {{shapes|figures|objects}}{SHOWN}.",
    "{What is|Give me|Tell me} the number of <colour> {shapes|figures|objects}.",
]
EXISTS = [
    f"Is there a <colour> <kind>{SHOWN}?",
    f"{{Do you see|Can you see|Can you find}} a <colour> <kind>{SHOWN}?",
    f"Does the {PICTURE} {{show|have|contain}} a <colour> <kind>?",
]
WHERE = [
    f"Where is the <thing>{SHOWN}?",
    f"Where {{do you see|can you see|can I find}} the <thing>{SHOWN}?",
    "{What is|Tell me|Give me|Name} the {position|place|location} of the <thing>.",
    f"In {{what|which}} {{part|place|area}} of the {PICTURE} is the <thing>?",
    f"{{Say|Tell me}} where the <thing> is{SHOWN}.",
]
LARGER = [
    "{Which|What} is {larger|bigger}, the <a> or the <b>?",
    "{Which|What} {shape|one} is {larger|bigger}: the <a> or the <b>?",
    "Is the <a> or the <b> {larger|bigger}?",
    "{Compare|Tell me which is larger of} the <a> and the <b> {by size|in size|}.",
]
RELATION = {
    "left": ["Is the <a> {left of|to the left of|on the left of} the <b>?"],
    "right": ["Is the <a> {right of|to the right of|on the right of} the <b>?"],
    "above": ["Is the <a> {above|over|higher than} the <b>?"],
    "below": ["Is the <a> {below|under|lower than} the <b>?"],
}
DESCRIBE = [
    f"What {{is|do you see|can you see|is shown}} {{in|on}} {{the|this}} {PICTURE}?",
    f"{{Describe|Look at and describe|Explain}} {{the|this}} {PICTURE}.",
    f"What does {{the|this}} {PICTURE} show?",
    "What {do you see|can you see|is this|is here}?",
    "{List|Name} {all shapes|the shapes|what you see|everything}.",
    "{Give me|Write} {a|a short} description{ of the picture| of the image|}.",
]
TWO_MORE = [
    f"Which {PICTURE} {{has|shows|contains}} more {{shapes|figures|objects}}?",
    f"In which {PICTURE} are there more {{shapes|figures|objects}}?",
    "Are there more {shapes|figures|objects} in the first or {in |}the second {picture|image}?",
]
TWO_WHERE = [
    f"{{Which|What}} {PICTURE} {{has|shows|contains}} the <thing>?",
    f"In which {PICTURE} is the <thing>?",
    "Is the <thing> in the first or {in |}the second {picture|image}?",
    "{Tell me|Say} which {picture|image} shows the <thing>.",
]
TWO_COLOUR = [
    "{What|Which} {colour|color} is the <kind> in the <nth> {picture|image|photo}?",
    "In the <nth> {picture|image|photo}, {what|which} {colour|color} is the <kind>?",
    "{Name|Tell me} the {colour|color} of the <kind> in the <nth> {picture|image|photo}.",
]
TWO_DESCRIBE = [
    "{Describe|Compare|Look at} {both|the two} {pictures|images|photos}.",
    "What {is|do you see|can you see} in {both|the two|these} {pictures|images|photos}?",
    "What do {both|the two|these} {pictures|images|photos} show?",
]


def describe(scene: Scene) -> str:
    if not scene.shapes:
        return f"a plain {scene.plain} picture"
    return join_words([f"{with_article(s.name)} at the {s.place}" for s in scene.shapes])


def thought_of(scene: Scene) -> str:
    return f"I see {describe(scene)}."


def unique_kinds(scene: Scene) -> list[Shape]:
    kinds = [s.kind for s in scene.shapes]
    return [s for s in scene.shapes if kinds.count(s.kind) == 1]


def unique_colours(scene: Scene) -> list[Shape]:
    colours = [s.colour for s in scene.shapes]
    return [s for s in scene.shapes if colours.count(s.colour) == 1]


def unique_names(scene: Scene) -> list[Shape]:
    names = [s.name for s in scene.shapes]
    return [s for s in scene.shapes if names.count(s.name) == 1]


class PictureTasks:
    """The picture tasks, drawing in the given sizes (or in any, if none are given)."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        self._sizes = sizes

    def scene(self, draw: Draw, accept: Callable[[Scene], object], at_least: int = 1) -> Scene:
        rng = draw.rng

        def make() -> Scene:
            while True:
                count = rng.choice([n for n in (1, 2, 2, 3, 3, 4, 4) if n >= at_least])
                scene = draw_scene(rng, self._sizes, count)
                if len(scene.shapes) >= at_least and accept(scene):
                    return scene

        return draw.until("scene", make, Scene.key)

    def colour(self, draw: Draw) -> Item:
        by_place = draw.chance(0.25)
        scene = self.scene(draw, (lambda s: True) if by_place else unique_kinds)
        shape = draw.rng.choice(scene.shapes if by_place else unique_kinds(scene))
        if by_place:
            text = draw.phrase("picture_colour_place", COLOUR_AT_PLACE, place=shape.place)
        else:
            text = draw.phrase("picture_colour", COLOUR_OF_KIND, kind=shape.kind)
        reply = f"The {shape.kind} is {shape.colour}."
        return question("picture_colour", text, reply, thought_of(scene), media=[scene])

    def shape(self, draw: Draw) -> Item:
        by_place = draw.chance(0.3)
        scene = self.scene(draw, (lambda s: True) if by_place else unique_colours)
        shape = draw.rng.choice(scene.shapes if by_place else unique_colours(scene))
        if by_place:
            text = draw.phrase("picture_shape_place", SHAPE_AT_PLACE, place=shape.place)
            reply = f"At the {shape.place} is {with_article(shape.name)}."
        else:
            text = draw.phrase("picture_shape", SHAPE_OF_COLOUR, colour=shape.colour)
            reply = f"The {shape.colour} shape is a {shape.kind}."
        return question("picture_shape", text, reply, thought_of(scene), media=[scene])

    def count(self, draw: Draw) -> Item:
        scene = self.scene(draw, lambda s: True)
        which = draw.rng.choice(("all", "kind", "colour", "exists", "exists"))
        if which == "all":
            text = draw.phrase("picture_count", COUNT_ALL)
            reply = _there_are(len(scene.shapes), "shape")
        elif which == "exists":
            return self._exists(draw, scene)
        else:
            present = [getattr(s, which) for s in scene.shapes]
            choices = present if draw.chance(0.8) else list(KINDS if which == "kind" else COLOURS)
            value = draw.rng.choice(choices)
            grammar = COUNT_KIND if which == "kind" else COUNT_COLOUR
            text = draw.phrase(f"picture_count_{which}", grammar, **{which: value})
            text = text.replace("crosss", "crosses")
            noun = value if which == "kind" else f"{value} shape"
            reply = _there_are(present.count(value), noun)
        return question("picture_count", text, reply, thought_of(scene), media=[scene])

    def _exists(self, draw: Draw, scene: Scene) -> Item:
        rng = draw.rng
        shape = rng.choice(scene.shapes)
        colour, kind = shape.colour, shape.kind
        if draw.chance(0.5):
            colour, kind = (rng.choice(list(COLOURS)), kind) if draw.chance(0.5) else (colour, rng.choice(KINDS))
        name = f"{colour} {kind}"
        text = draw.phrase("picture_exists", EXISTS, colour=colour, kind=kind)
        text = text.replace("a orange", "an orange")
        there = any(s.name == name for s in scene.shapes)
        noun = with_article(name)
        reply = f"Yes, there is {noun}." if there else f"No, there is not {noun}."
        return question("picture_count", text, reply, thought_of(scene), media=[scene])

    def position(self, draw: Draw) -> Item:
        scene = self.scene(draw, unique_names)
        shape = draw.rng.choice(unique_names(scene))
        short = shape in unique_kinds(scene) and draw.chance(0.5)
        thing = shape.kind if short else shape.name
        text = draw.phrase("picture_position", WHERE, thing=thing)
        reply = f"The {thing} is at the {shape.place}."
        return question("picture_position", text, reply, thought_of(scene), media=[scene])

    def compare(self, draw: Draw) -> Item:
        if draw.chance(0.45):
            return self._larger(draw)
        scene = self.scene(draw, lambda s: len(unique_names(s)) >= 2, at_least=2)
        a, b = draw.rng.sample(unique_names(scene), 2)
        names = [n for n in ("left", "right") if a.col != b.col]
        names += [n for n in ("above", "below") if a.row != b.row]
        relation = draw.rng.choice(names)
        holds = {
            "left": a.col < b.col,
            "right": a.col > b.col,
            "above": a.row < b.row,
            "below": a.row > b.row,
        }[relation]
        text = draw.phrase(f"picture_{relation}", RELATION[relation], a=a.name, b=b.name)
        reply = f"The {a.name} is at the {a.place} and the {b.name} is at the {b.place}, so {'yes' if holds else 'no'}."
        return question("picture_compare", text, reply, thought_of(scene), media=[scene])

    def _larger(self, draw: Draw) -> Item:
        def comparable(scene: Scene) -> bool:
            radii = [s.radius for s in unique_names(scene)]
            return len(radii) >= 2 and max(radii) > 1.35 * min(radii)

        scene = self.scene(draw, comparable, at_least=2)
        while True:
            a, b = draw.rng.sample(unique_names(scene), 2)
            larger, smaller = (a, b) if a.radius > b.radius else (b, a)
            if larger.radius > 1.35 * smaller.radius:
                break
        text = draw.phrase("picture_larger", LARGER, a=a.name, b=b.name)
        thought = f"{thought_of(scene)} The {larger.name} is large, the {smaller.name} is small."
        reply = f"The {larger.name} is larger."
        return question("picture_compare", text, reply, thought, media=[scene])

    def describe(self, draw: Draw) -> Item:
        if draw.chance(0.12):
            scene = draw.until("scene", lambda: plain_scene(draw.rng, self._sizes), Scene.key)
        else:
            scene = self.scene(draw, lambda s: True)
        text = draw.phrase("picture_describe", DESCRIBE)
        said = describe(scene)
        reply = said[0].upper() + said[1:] + "."
        thought = "I look at the shapes from the top to the bottom."
        return question("picture_describe", text, reply, thought, media=[scene])

    def two(self, draw: Draw) -> Item:
        which = draw.rng.choice(("more", "where", "colour", "describe"))
        first = self.scene(draw, lambda s: unique_kinds(s) and unique_names(s))
        second = self.scene(
            draw,
            lambda s: (
                unique_kinds(s)
                and unique_names(s)
                and len(s.shapes) != len(first.shapes)
                and not {x.name for x in s.shapes} & {x.name for x in first.shapes}
            ),
        )
        pair = (first, second)
        index = draw.rng.randrange(2)
        nth = ("first", "second")[index]
        if which == "more":
            more = int(len(second.shapes) > len(first.shapes))
            text = draw.phrase("two_more", TWO_MORE)
            reply = f"The {('first', 'second')[more]} picture has more shapes."
        elif which == "where":
            shape = draw.rng.choice(unique_names(pair[index]))
            text = draw.phrase("two_where", TWO_WHERE, thing=shape.name)
            reply = f"The {shape.name} is in the {nth} picture."
        elif which == "colour":
            shape = draw.rng.choice(unique_kinds(pair[index]))
            text = draw.phrase("two_colour", TWO_COLOUR, kind=shape.kind, nth=nth)
            reply = f"The {shape.kind} in the {nth} picture is {shape.colour}."
        else:
            text = draw.phrase("two_describe", TWO_DESCRIBE)
            reply = f"First picture: {describe(first)}. Second picture: {describe(second)}."
            thought = "I look at the first picture, then at the second."
            return question("two_pictures", text, reply, thought, media=pair)
        thought = f"First picture: {describe(first)}. Second picture: {describe(second)}."
        return question("two_pictures", text, reply, thought, media=pair)


def place_names() -> list[str]:
    return [name for row in CELLS for name in row]


def _there_are(count: int, noun: str) -> str:
    if count == 1:
        return f"There is 1 {noun}."
    plural = f"{noun}es" if noun.endswith("cross") else f"{noun}s"
    return f"There are {count} {plural}."
