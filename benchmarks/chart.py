"""Draws bench.py's ratios to native as an SVG of bars, one pair of bars a subject, on a log scale."""

import math
from xml.sax.saxutils import escape

COLOURS = ["#2f6db5", "#c8742b", "#4b9a5f"]
ROW, BAR, LEFT, WIDTH = 26, 9, 210, 560


def ratios(systems):
    native = systems[0].results
    rows = []
    for name, base in native.items():
        values = []
        for system in systems[1:]:
            got = system.results.get(name)
            values.append(got["wall"] / base["wall"] if got and base["wall"] else None)
        if any(v is not None for v in values):
            rows.append((name, values))
    return rows


def write(path, systems):
    rows = ratios(systems)
    if not rows:
        return
    values = [v for _, vs in rows for v in vs if v]
    low = min(-1.0, math.floor(math.log2(min(values))))
    high = max(3.0, math.ceil(math.log2(max(values))))
    scale = WIDTH / (high - low)

    def x(value):
        return LEFT + (math.log2(max(value, 2.0 ** low)) - low) * scale

    height = 60 + ROW * len(rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" '
             f'height="{height}" font-family="sans-serif" font-size="11">',
             '<rect width="100%" height="100%" fill="white"/>',
             '<text x="10" y="18" font-size="13">Time as a multiple of native '
             '(logarithmic; shorter is better)</text>']
    for i, system in enumerate(systems[1:]):
        parts.append(f'<rect x="{LEFT + 240 + 120 * i}" y="9" width="10" height="10" '
                     f'fill="{COLOURS[i % 3]}"/><text x="{LEFT + 255 + 120 * i}" y="18">'
                     f'{escape(system.name)}</text>')
    for power in range(int(low), int(high) + 1):
        at = LEFT + (power - low) * scale
        parts.append(f'<line x1="{at:.1f}" y1="36" x2="{at:.1f}" y2="{height - 8}" '
                     f'stroke="{"#444" if power == 0 else "#ddd"}"/>'
                     f'<text x="{at:.1f}" y="33" text-anchor="middle" fill="#555">'
                     f'{2 ** power if power >= 0 else f"1/{2 ** -power}"}x</text>')
    for row, (name, vs) in enumerate(rows):
        top = 44 + row * ROW
        parts.append(f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(name)}</text>')
        for i, value in enumerate(vs):
            if value is None:
                continue
            a, b = sorted((x(1.0), x(value)))
            y = top + i * (BAR + 1)
            parts.append(f'<rect x="{a:.1f}" y="{y}" width="{max(b - a, 1):.1f}" height="{BAR}" '
                         f'fill="{COLOURS[i % 3]}"/><text x="{max(b, x(1.0)) + 4:.1f}" '
                         f'y="{y + 8}" font-size="9">{value:.2f}</text>')
    parts.append("</svg>")
    with open(path, "w", encoding="utf-8") as out:
        out.write("\n".join(parts))
