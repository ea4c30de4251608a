"""Histograms of a cost over a space: as text for the terminal, and as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from nasdsl.terminal import Paint

FONT = "Helvetica, Arial, sans-serif"
BAR, LINE, TEXT, MARK = "#7a9cc6", "#3d4652", "#22272e", "#b5462f"
WIDE, HIGH = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 92, 64


@dataclass(frozen=True)
class Mark:
    """A place on the axis worth a name: a published model, or a quantile."""

    value: float
    name: str


@dataclass(frozen=True)
class Histogram:
    """Shares of a space in bins of a cost.

    Attributes:
        title, unit: of the picture; what the axis shows (`MACs`).
        edges: of the bins, ascending; one more than there are shares.
        shares: of the architectures in each bin; they add up to 1.
        note: how the figures were found.
    """

    title: str
    unit: str
    edges: Sequence[float]
    shares: Sequence[float]
    note: str = ""


def short(number: float) -> str:
    """`2.35G`, `640M`, `18.2K`: three digits and a suffix."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.3g}"


# --- Text -------------------------------------------------------------------------------------------------------------

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def as_text(histogram: Histogram, marks: Sequence[Mark] = (), width: int = 80, paint: Paint | None = None) -> str:
    """A line for each bin: its lower edge, a bar, its share, and the marks that fall into it."""
    paint = paint or Paint(False)
    edges, shares = histogram.edges, histogram.shares
    labels = [short(edge) for edge in edges[:-1]]
    room = max(len(label) for label in labels)
    names = [", ".join(mark.name for mark in marks if _inside(mark.value, edges, i)) for i in range(len(shares))]
    longest = max(map(len, names), default=0)
    bar = max(10, width - room - 14 - (longest + 3 if longest else 0))
    peak = max(shares)
    lines = []
    for label, share, name in zip(labels, shares, names, strict=True):
        eighths = round(share / peak * bar * 8) if peak else 0
        drawn = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        drawn = drawn or ("▏" if share > 0 else "")
        told = f"{share:8.2%}" if share >= 5e-5 else f"{share:8.1e}" if share > 0 else " " * 8
        end = "  " + paint("< " + name, "red") if name else ""
        lines.append(f"  {label:>{room}}  {paint(drawn.ljust(bar), 'blue')} {told}{end}".rstrip())
    return "\n".join(lines)


def _inside(value: float, edges: Sequence[float], i: int) -> bool:
    return edges[i] <= value < edges[i + 1] or (i + 2 == len(edges) and value == edges[-1])


# --- SVG --------------------------------------------------------------------------------------------------------------


def as_svg(
    histogram: Histogram,
    marks: Sequence[Mark] = (),
    quantiles: Sequence[Mark] = (),
    beside: Sequence[float] = (),
    whose: str = "",
) -> str:
    """A picture: bars, quantiles as dashed lines under their names, marks in red.

    `beside` are shares of something else in the same bins, told as `whose`: a red outline, to a height of its own.

    A mark outside the range of the bins widens the axis, so that a model from elsewhere can be compared.
    """
    low, high = _range(histogram, marks)
    peak = max(histogram.shares) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDE - LEFT - RIGHT)

    def y(share: float) -> float:
        return HIGH - BOTTOM - share / peak * (HIGH - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" height="{HIGH}" '
        f'font-family="{FONT}" font-size="12" fill="{TEXT}">',
        f"<title>{escape(histogram.title)}</title>",
        f'<rect width="{WIDE}" height="{HIGH}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(histogram.title)}</text>',
        f'<text x="{LEFT}" y="{HIGH - 8}" fill="{LINE}">{escape(histogram.note)}</text>',
    ]
    for share in ticks(0, peak, 4):
        height = y(share)
        out.append(f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="#e3e6ea"/>')
        label = f"{share * 100:.3g}%"
        out.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{label}</text>')
    for i, share in enumerate(histogram.shares):
        if share > 0:
            left, right = x(histogram.edges[i]), x(histogram.edges[i + 1])
            top = min(y(share), HIGH - BOTTOM - 0.6)
            out.append(
                f'<rect x="{left:.2f}" y="{top:.2f}" width="{max(right - left - 0.5, 0.5):.2f}" '
                f'height="{HIGH - BOTTOM - top:.2f}" fill="{BAR}"/>'
            )
    if any(beside):
        out += _outline([x(edge) for edge in histogram.edges], beside, whose)
    floor = HIGH - BOTTOM
    out.append(f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{floor}" y2="{floor}" stroke="{LINE}"/>')
    for value in ticks(low, high, 6):
        out.append(f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{floor}" y2="{floor + 5}" stroke="{LINE}"/>')
        out.append(f'<text x="{x(value):.1f}" y="{floor + 18}" text-anchor="middle">{short(value)}</text>')
    middle = (LEFT + WIDE - RIGHT) / 2
    out.append(f'<text x="{middle:.0f}" y="{floor + 36}" text-anchor="middle">{escape(histogram.unit)}</text>')
    out += _flags([(x(mark.value), mark.name) for mark in quantiles], LINE, 84, "4 3", floor)
    out += _flags([(x(mark.value), mark.name) for mark in marks], MARK, 56, "", floor)
    return "\n".join([*out, "</svg>", ""])


def _outline(edges: Sequence[float], shares: Sequence[float], name: str) -> list[str]:
    """A line over the bins at the height of shares, of which the greatest is nearly as high as the picture; its
    name."""
    floor, scale = HIGH - BOTTOM, 0.94 * (HIGH - TOP - BOTTOM) / max(shares)
    corners = [f"M{edges[0]:.1f} {floor}"]
    for right, share in zip(edges[1:], shares, strict=True):
        corners.append(f"V{floor - share * scale:.1f}H{right:.1f}")
    return [
        f'<path d="{"".join(corners)}V{floor}" fill="{MARK}" fill-opacity="0.1" stroke="{MARK}" stroke-width="1.4"/>',
        f'<text x="{WIDE - RIGHT}" y="22" text-anchor="end" fill="{MARK}">{escape(name)}</text>',
    ]


def _flags(places: Sequence[tuple[float, str]], colour: str, top: int, dash: str, floor: int) -> list[str]:
    """Upright lines with names on top; names that would overlap take turns on two rows, then give way."""
    out: list[str] = []
    ends = [0.0, 0.0]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    for place, name in sorted(places):
        half = 3.4 * len(name) + 4
        centre = min(max(place, LEFT + half - 40), WIDE - half)
        row = next((r for r in (0, 1) if centre - half > ends[r]), None)
        height = top - 14 * (row or 0)
        out.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{height + 4}" y2="{floor}" stroke="{colour}"{dashes}>'
            f"<title>{escape(name)}</title></line>"
        )
        if row is not None:
            ends[row] = centre + half
            out.append(
                f'<text x="{centre:.1f}" y="{height}" text-anchor="middle" fill="{colour}">{escape(name)}</text>'
            )
    return out


def _range(histogram: Histogram, marks: Sequence[Mark]) -> tuple[float, float]:
    values = [histogram.edges[0], histogram.edges[-1], *[mark.value for mark in marks]]
    low, high = min(values), max(values)
    margin = (high - low) * 0.02 or max(abs(high), 1) * 0.02
    return max(low - margin, 0.0), high + margin


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two, about so many."""
    rough = (high - low) / about
    power = 10.0 ** (len(f"{rough:.0f}") - 1) if rough >= 1 else 1.0
    while power > rough:
        power /= 10
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    first = -(-low // step)
    return [(first + i) * step for i in range(int((high - first * step) / step + 1e-9) + 1)]
