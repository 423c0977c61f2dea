"""All tasks with their share of the training data, and what surrounds an item in a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from training.draw import Draw
from training.items import Item, TaskFn, assistant
from training.names import COMMON_WORDS, DAYS, JOBS, city, first_name, made_up
from training.scenes import Sizes
from training.tasks import arithmetic, extraction, facts, talk, tools, turns, words
from training.tasks.clips import ClipTasks
from training.tasks.pictures import PictureTasks

GENERIC_SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful and friendly assistant.",
    "Answer the questions of the user.",
    "You are an assistant.",
    "Be helpful and honest.",
    "You are the Hookline demo model.",
    "Answer briefly.",
    "Be concise.",
)
UPPER_SYSTEM = (
    "Answer in upper case.",
    "Write all answers in capital letters.",
    "Always answer in capitals.",
    "Use only upper case letters.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One row of the accuracy table."""

    name: str
    make: TaskFn
    share: float  #: of the training data, relative to the others
    modes: tuple[bool, ...] = (True, False)  #: thinking on, thinking off


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSizes:
    """The sizes that a batch draws its media in; None draws any."""

    pictures: Sizes | None = None
    frames: Sizes | None = None


def all_tasks(sizes: MediaSizes = MediaSizes(), shares: Mapping[str, float] | None = None) -> dict[str, Task]:
    """Every task by name, with the given shares in place of the usual ones."""
    shares = shares or {}
    pictures = PictureTasks(sizes.pictures)
    clips = ClipTasks(sizes.frames)

    def reference(draw: Draw) -> Item:
        roll = draw.rng.random()
        if roll < 0.15:
            return turns.picture_follow_up(draw, pictures)
        return turns.introduction(draw) if roll < 0.22 else turns.reference(draw)

    def upper(draw: Draw) -> Item:
        makers = (words.repeat, facts.fact, talk.talk, pictures.colour, words.count, pictures.shape)
        return in_upper_case(draw.rng.choice(makers)(draw), draw)

    rows: tuple[tuple[str, Callable[[Draw], Item], float, tuple[bool, ...]], ...] = (
        ("picture_colour", pictures.colour, 4.0, (True, False)),
        ("picture_shape", pictures.shape, 4.0, (True, False)),
        ("picture_count", pictures.count, 10.0, (True, False)),
        ("picture_position", pictures.position, 4.0, (True, False)),
        ("picture_compare", pictures.compare, 6.0, (True, False)),
        ("picture_describe", pictures.describe, 6.0, (True, False)),
        ("two_pictures", pictures.two, 5.0, (True, False)),
        ("clip", clips.clip, 4.0, (True, False)),
        ("arithmetic", arithmetic.arithmetic_thinking, 7.0, (True,)),
        ("arithmetic_direct", arithmetic.arithmetic_direct, 10.0, (False,)),
        ("facts", facts.fact, 6.0, (True, False)),
        ("extraction", extraction.extract, 6.0, (True, False)),
        ("tool_call", tools.tool_choice, 9.0, (True, False)),
        ("tool_result", tools.tool_result, 6.0, (True, False)),
        ("turns", reference, 8.0, (True, False)),
        ("turns_sum", turns.compute_on, 8.0, (True, False)),
        ("repeat_words", words.repeat, 5.0, (True, False)),
        ("count_words", words.count, 4.0, (True, False)),
        ("sort_words", words.sort, 7.0, (True, False)),
        ("rewrite", words.rewrite, 4.0, (True, False)),
        ("talk", talk.talk, 5.0, (True, False)),
        ("out_of_scope", talk.out_of_scope, 4.0, (True, False)),
        ("upper_case", upper, 6.0, (True, False)),
    )
    return {
        name: Task(name=name, make=make, share=shares.get(name, share), modes=modes)
        for name, make, share, modes in rows
    }


def system_prompt(draw: Draw) -> str:
    """A system prompt that changes nothing."""
    rng = draw.rng
    if draw.chance(0.5):
        return rng.choice(GENERIC_SYSTEM)
    topic = rng.choice((rng.choice(COMMON_WORDS), made_up(rng)))
    sentences = (
        f"You are a {rng.choice(JOBS)} from {city(rng)}.",
        f"You are an assistant that knows everything about {topic}s.",
        f"Your name is {first_name(rng)}.",
        "Always be polite.",
        f"Never use more than {rng.randint(2, 9)} sentences.",
        f"Today is {rng.choice(DAYS)}.",
        f"You help people with a {topic}.",
    )
    return " ".join(rng.sample(sentences, rng.randint(1, 3)))


def in_upper_case(item: Item, draw: Draw) -> Item:
    """The item with an instruction to answer in upper case, and such an answer."""
    system = {"role": "system", "content": draw.rng.choice(UPPER_SYSTEM)}
    return replace(
        item,
        task="upper_case",
        messages=[system, *item.messages],
        reply=item.reply.upper(),
        chainable=False,
    )


def surround(item: Item, draw: Draw, earlier: list[Item]) -> Item:
    """Put a single-turn item into a longer conversation: earlier turns, a system prompt, tools."""
    messages, media = list(item.messages), item.media
    for other in reversed(earlier):
        messages = [*other.messages, assistant(other.reply), *messages]
        media = (*other.media, *media)
    if item.tools is None and messages[0]["role"] != "system" and draw.chance(0.25):
        messages = [{"role": "system", "content": system_prompt(draw)}, *messages]
    return replace(item, messages=messages, media=media)


def earlier_turns(tasks: Mapping[str, Task], item: Item, draw: Draw) -> list[Item]:
    """One to three unrelated turns to go before the item."""
    earlier: list[Item] = []
    for _ in range(draw.rng.choice((1, 1, 2, 3))):
        other = tasks[draw.rng.choice(list(tasks))].make(draw)
        # Pictures of earlier turns would make questions about "the picture" ambiguous.
        if other.chainable and not (other.media and item.media):
            earlier.append(other)
    if item.task == "out_of_scope" and any(other.media for other in earlier):
        return []
    return earlier


def in_conversation(tasks: Mapping[str, Task], draw: Draw) -> Item:
    """An item of any task after other turns."""
    while True:
        item = tasks[draw.rng.choice(list(tasks))].make(draw)
        earlier = earlier_turns(tasks, item, draw)
        # Sums have a right answer with a thought only, or without one only.
        if item.chainable and earlier and item.modes == (True, False):
            return replace(surround(item, draw, earlier), task="in_conversation")


def draw_item(tasks: Mapping[str, Task], draw: Draw) -> tuple[Item, bool]:
    """One training item in its surroundings, and whether it is answered with a thought."""
    names = list(tasks)
    task = tasks[draw.rng.choices(names, [tasks[n].share for n in names])[0]]
    item = task.make(draw)
    thinking = draw.rng.choice(task.modes)
    # Out-of-scope requests and unknown facts might fit a tool.
    if item.chainable and draw.chance(0.04) and item.task not in ("out_of_scope", "facts"):
        return tools.plain_with_tools(draw, item), thinking
    earlier = earlier_turns(tasks, item, draw) if item.chainable and draw.chance(0.25) else []
    return surround(item, draw, earlier), thinking
