"""A small bar chart as SVG, without a library."""

from __future__ import annotations

import math
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, ROW, LEFT = 640, 26, 120


def bars(path: Path, title: str, values: dict[str, float]) -> None:
    """Write `values` (seconds by name) as bars on a logarithmic scale, the shortest first."""
    order = sorted(values.items(), key=lambda item: item[1])
    low = math.floor(math.log10(order[0][1]))
    high = math.log10(order[-1][1])
    height = ROW * (len(order) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="18" font-weight="bold">{escape(title)} (seconds, logarithmic)</text>',
    ]
    for number, (name, value) in enumerate(order):
        y = ROW * (number + 1) + 6
        length = max(2.0, (math.log10(value) - low) / max(0.1, high - low) * (WIDTH - LEFT - 80))
        colour = "#2a7" if name == "sloth-runner" else "#bbb" if name == "floor" else "#48c"
        parts.append(f'<text x="8" y="{y + 14}">{escape(name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.0f}" height="{ROW - 8}" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + length + 6:.0f}" y="{y + 14}">{value:.2f} s</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")
