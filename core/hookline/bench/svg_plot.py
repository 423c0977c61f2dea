"""Distributions of latencies as an SVG picture, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
_WIDTH, _HEIGHT = 340, 240
_LEFT, _TOP, _RIGHT, _BOTTOM = 48, 34, 14, 40
_LEGEND_LINE = 16
#: Points of a line at most, and the share of the slowest values that the axis leaves out.
_POINTS = 200
_CUT = 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One diagram: which share of the values is at most so large."""

    title: str
    #: Name -> values, in the unit of the axis.
    series: dict[str, Sequence[float]]
    unit: str = "ms"


def cumulative_plot(panels: Sequence[Panel]) -> str:
    """An SVG document with the panels side by side and one legend."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    height = _HEIGHT + 10 + _LEGEND_LINE * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH * len(panels)}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * _WIDTH} 0)">{_panel(panel, colours)}</g>')
    for number, name in enumerate(names):
        y = _HEIGHT + 10 + _LEGEND_LINE * number
        parts.append(f'<rect x="{_LEFT}" y="{y - 8}" width="18" height="3" fill="{colours[name]}"/>')
        parts.append(f'<text x="{_LEFT + 26}" y="{y - 3}">{escape(name)}</text>')
    parts.append("</svg>")
    return "\n".join(parts)


def _panel(panel: Panel, colours: dict[str, str]) -> str:
    largest = max((float(np.quantile(values, _CUT)) for values in panel.series.values() if len(values)), default=0.0)
    step = _nice_step(largest or 1.0)
    end = step * max(1, math.ceil((largest or 1.0) / step))
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + width * min(value, end) / end

    def y(share: float) -> float:
        return _TOP + height * (1 - share)

    parts = [f'<text x="{_LEFT}" y="{_TOP - 12}" font-size="13">{escape(panel.title)}</text>']
    for number in range(round(end / step) + 1):
        value = number * step
        parts.append(_line(x(value), y(0), x(value), y(1), "#e5e5e5"))
        parts.append(f'<text x="{x(value):.1f}" y="{y(0) + 15:.1f}" text-anchor="middle">{value:g}</text>')
    for share in (0.0, 0.5, 0.9, 1.0):
        parts.append(_line(x(0), y(share), x(end), y(share), "#e5e5e5"))
        parts.append(f'<text x="{_LEFT - 5}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    parts.append(f'<text x="{_LEFT + width / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(panel.unit)}</text>')
    for name, values in panel.series.items():
        if len(values):
            shares = np.linspace(0.0, 1.0, min(_POINTS, max(2, len(values))))
            points = zip(np.quantile(values, shares).tolist(), shares.tolist(), strict=True)
            path = " ".join(f"{x(value):.1f},{y(share):.1f}" for value, share in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.6"/>')
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _nice_step(largest: float) -> float:
    """1, 2 or 5 times a power of ten, of which about four make ``largest``."""
    power = 10.0 ** math.floor(math.log10(largest / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= largest / 4)
