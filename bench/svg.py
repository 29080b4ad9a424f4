"""Plots as SVG text, without a plotting library: bars for tools, lines for curves. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_FONT = 'font-family="sans-serif" font-size="12"'
_COLOURS = ("#0b6e4f", "#c8553d", "#3d5a80", "#8e6c8a", "#b08900", "#5c6b73", "#007ea7", "#9a031e")
_OURS, _OTHERS = "#0b6e4f", "#9fb3c8"
_BAR, _GAP, _LABEL, _VALUE, _WIDTH = 18, 8, 190, 70, 330


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. `values` are (label, value, whether it is to stand out) for bars."""

    title: str
    values: Sequence[tuple[str, float, bool]]


def bars(title: str, panels: Sequence[Panel]) -> str:
    """Panels of horizontal bars side by side; short bars are good bars by convention of the callers."""
    rows = max(len(panel.values) for panel in panels)
    height = 66 + rows * (_BAR + _GAP)
    width = len(panels) * (_LABEL + _WIDTH + _VALUE)
    parts = [_text(10, 20, title, bold=True)]
    for place, panel in enumerate(panels):
        left = place * (_LABEL + _WIDTH + _VALUE)
        most = max((value for _, value, _ in panel.values), default=0.0) or 1.0
        parts.append(_text(left + _LABEL, 44, panel.title))
        for row, (label, value, stands_out) in enumerate(panel.values):
            top = 56 + row * (_BAR + _GAP)
            length = _WIDTH * value / most
            colour = _OURS if stands_out else _OTHERS
            parts.append(_text(left + _LABEL - 8, top + 13, label, anchor="end"))
            parts.append(f'<rect x="{left + _LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>')
            parts.append(_text(left + _LABEL + length + 6, top + 13, _short(value)))
    return _document(width, height, parts)


Curve = Sequence[tuple[float, float]]
_PLOT_W, _PLOT_H, _LEFT, _TOP, _BETWEEN, _LEGEND = 420, 260, 70, 60, 80, 20


def lines(title: str, charts: Mapping[str, Mapping[str, Curve]], x_title: str) -> str:
    """Charts side by side; each has named curves of (x, y) with x on a logarithmic axis and y from 0."""
    names = list(dict.fromkeys(name for curves in charts.values() for name in curves))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
    width = _LEFT + len(charts) * (_PLOT_W + _BETWEEN)
    height = _TOP + _PLOT_H + 60 + _LEGEND * len(names)
    parts = [_text(10, 20, title, bold=True)]
    for place, (chart, curves) in enumerate(charts.items()):
        left = _LEFT + place * (_PLOT_W + _BETWEEN)
        parts.append(_text(left, 48, chart))
        parts += _axes(left, curves, x_title)
        for name, curve in curves.items():
            parts += _curve(left, curves, curve, colours[name])
    for row, name in enumerate(names):
        top = _TOP + _PLOT_H + 56 + row * _LEGEND
        parts.append(f'<rect x="{_LEFT}" y="{top - 9}" width="24" height="4" fill="{colours[name]}"/>')
        parts.append(_text(_LEFT + 32, top - 3, name))
    return _document(width, height, parts)


def _bounds(curves: Mapping[str, Curve]) -> tuple[float, float, float]:
    xs = [x for curve in curves.values() for x, _ in curve] or [1.0]
    ys = [y for curve in curves.values() for _, y in curve] or [1.0]
    low, high = math.log10(min(xs)), math.log10(max(xs))
    return low, high if high > low else low + 1, _ceiling(max(ys))


def _ceiling(most: float) -> float:
    """The end of an axis that holds `most` and whose quarters are round numbers."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    steps = (1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0)
    return next(step * power for step in steps if step * power >= most)


def _place(left: float, bounds: tuple[float, float, float], x: float, y: float) -> tuple[float, float]:
    low, high, most = bounds
    return left + _PLOT_W * (math.log10(x) - low) / (high - low), _TOP + _PLOT_H * (1 - y / most)


def _axes(left: float, curves: Mapping[str, Curve], x_title: str) -> list[str]:
    bounds = _bounds(curves)
    bottom = _TOP + _PLOT_H
    parts = [f'<rect x="{left}" y="{_TOP}" width="{_PLOT_W}" height="{_PLOT_H}" fill="none" stroke="#888"/>']
    for step in range(5):
        value = bounds[2] * step / 4
        y = bottom - _PLOT_H * step / 4
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + _PLOT_W}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(left - 6, y + 4, _short(value), anchor="end"))
    for x in sorted({x for curve in curves.values() for x, _ in curve}):
        parts.append(_text(_place(left, bounds, x, 0)[0], bottom + 16, _short(x), anchor="middle"))
    parts.append(_text(left + _PLOT_W / 2, bottom + 34, x_title, anchor="middle"))
    return parts


def _curve(left: float, curves: Mapping[str, Curve], curve: Curve, colour: str) -> list[str]:
    bounds = _bounds(curves)
    points = [_place(left, bounds, x, y) for x, y in curve]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]


def _short(value: float) -> str:
    """A number as an axis shows it: 1.2M, 20k, 350, 0.48."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_FONT}{weight}>{escape(text)}</text>'


def _document(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"
