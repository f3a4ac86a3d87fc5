# SPDX-License-Identifier: Apache-2.0
# Figures as SVG, written out by hand: bars and lines over a logarithmic axis, and stacked bars. No library.
import html
import math

OURS, THEIRS, GROUND = "#1769aa", "#c05621", "#cbd5e0"
WIDTH = 760


class Drawing:
    def __init__(self, height, title):
        self.height = height
        self.parts = [f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
        self.text(16, 24, title, size=15, weight="bold")

    def text(self, x, y, words, size=12, anchor="start", weight="normal", colour="#1a202c"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
                          f'fill="{colour}">{html.escape(words)}</text>')

    def box(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" fill="{colour}"/>')

    def line(self, points, colour, width=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')

    def write(self, path):
        body = "\n".join(self.parts)
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
                        f'font-family="Helvetica, Arial, sans-serif">\n{body}\n</svg>\n')


def log_bars(path, title, rows):
    """`rows`: (label, factor). A bar to the right of 1 where ours is faster, to the left where theirs is."""
    left, right, step = 330, WIDTH - 70, 20
    drawing = Drawing(60 + step * len(rows), title)
    low = min(1.0, *(factor for _, factor in rows)) * 0.8
    high = max(10.0, *(factor for _, factor in rows)) * 1.2
    at = lambda factor: left + (right - left) * math.log(factor / low) / math.log(high / low)
    for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        x = at(10.0**power)
        drawing.line([(x, 40), (x, 46 + step * len(rows))], GROUND if power else "#4a5568")
        drawing.text(x, 58 + step * len(rows), f"{10.0**power:g} x", size=11, anchor="middle")
    for i, (label, factor) in enumerate(rows):
        y = 44 + step * i
        drawing.text(left - 8 if factor >= 1 else at(factor) - 8, y + 11, label, anchor="end")
        drawing.box(min(at(1), at(factor)), y, abs(at(factor) - at(1)), step - 6, OURS if factor >= 1 else THEIRS)
        drawing.text(max(at(factor), at(1)) + 5, y + 11, f"{factor:.0f}" if factor >= 100 else f"{factor:.3g}", size=11)
    drawing.write(path)


def log_lines(path, title, across, lines):
    """`lines`: (label, colour, [(x, seconds)])."""
    left, right, top, bottom = 70, WIDTH - 230, 44, 270
    drawing = Drawing(310, title)
    xs = sorted({x for _, _, points in lines for x, _ in points})
    values = [y for _, _, points in lines for _, y in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    x_at = lambda x: left + (right - left) * math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
    y_at = lambda y: bottom - (bottom - top) * (math.log10(y) - low) / (high - low)
    for power in range(low, high + 1):
        drawing.line([(left, y_at(10.0**power)), (right, y_at(10.0**power))], GROUND)
        drawing.text(left - 8, y_at(10.0**power) + 4, f"{10.0 ** (power + 6):g} µs" if power < -3 else f"{10.0 ** (power + 3):g} ms", anchor="end", size=11)
    for x in xs:
        drawing.text(x_at(x), bottom + 18, f"{x:g}", anchor="middle", size=11)
    drawing.text((left + right) / 2, bottom + 36, across, anchor="middle")
    for label, colour, points in lines:
        drawing.line([(x_at(x), y_at(y)) for x, y in points], colour, 2)
        for x, y in points:
            drawing.dot(x_at(x), y_at(y), colour)
        drawing.text(x_at(points[-1][0]) + 10, y_at(points[-1][1]) + 4, label, colour=colour)
    drawing.write(path)


def stacked_bars(path, title, unit, rows):
    """`rows`: (label, [(colour, value)])."""
    left, right, step = 250, WIDTH - 90, 22
    drawing = Drawing(56 + step * len(rows), title)
    scale = (right - left) / max(sum(value for _, value in parts) for _, parts in rows)
    for i, (label, parts) in enumerate(rows):
        y, x = 44 + step * i, left
        drawing.text(left - 8, y + 11, label, anchor="end")
        for colour, value in parts:
            drawing.box(x, y, value * scale, step - 6, colour)
            x += value * scale
        drawing.text(x + 5, y + 11, f"{sum(value for _, value in parts):.0f} {unit}", size=11)
    drawing.write(path)
