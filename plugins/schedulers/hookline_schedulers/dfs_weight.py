"""Depth-first order over the prefix tree, by weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hookline.interfaces.scheduling import SchedulePolicy, SchedulerView, WaitingReq

#: Requests beyond the first so many keep their order of arrival: looking up all of a huge queue takes long.
_MAX_SORTED = 1024


@dataclass(slots=True)
class _Node:
    """A node of the cache's tree with the waiting requests whose prefix ends there or below."""

    children: dict[int, _Node] = field(default_factory=dict)
    own: list[WaitingReq] = field(default_factory=list)
    weight: int = 0


class DfsWeightPolicy(SchedulePolicy):
    """Walks the prefix tree depth first, the child with most waiting requests below it first, and a node's own
    requests after its children. Requests that share a prefix so run together, while it is cached."""

    cache_aware: ClassVar[bool] = True

    def order(self, view: SchedulerView) -> list[WaitingReq]:
        arrived = sorted(view.waiting, key=lambda req: req.arrival)
        sortable = arrived[:_MAX_SORTED]
        for req in sortable:
            # A match may split a node and so change the paths of others: ask all once before believing any.
            view.match(req)
        root = _Node()
        for req in sortable:
            _insert(root, req, view.match(req).path)
        return [*_walk(root), *arrived[_MAX_SORTED:]]


def _insert(root: _Node, req: WaitingReq, path: tuple[int, ...]) -> None:
    node = root
    node.weight += 1
    for ident in path:
        node = node.children.setdefault(ident, _Node())
        node.weight += 1
    node.own.append(req)


def _walk(root: _Node) -> list[WaitingReq]:
    # On a stack of its own, since a tree may be deeper than Python recurses. Children were inserted in order of
    # arrival, which a stable sort keeps among equal weights.
    order: list[WaitingReq] = []
    stack: list[tuple[_Node, bool]] = [(root, False)]
    while stack:
        node, children_done = stack.pop()
        if children_done:
            order.extend(node.own)
            continue
        stack.append((node, True))
        heaviest_first = sorted(node.children.values(), key=lambda child: -child.weight)
        stack.extend((child, False) for child in reversed(heaviest_first))
    return order
