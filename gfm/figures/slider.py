"""A figure with a slider over training steps: inline SVG and a small script, without kernel or other files.

If scripts are disabled, the whole curves are shown, as in any figure. Otherwise a slider (and a button, unless
the reader prefers reduced motion) draws the curves up to a step. The curves' points are stored once, in the SVG.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from gfm.errors import InputError
from gfm.figures import style
from gfm.figures.panels import Curve

__all__ = ["Curve", "SliderPanel", "script", "slider"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 400, 300, 58, 30, 44, 14
_MOST_BYTES = 150_000


@dataclass(frozen=True)
class SliderPanel:
    """One pair of axes, with curves (frames,) that grow with the steps, with gaps at NaN, each in its role.

    Attributes:
        xlim, ylim: its limits.
        log: whether the y axis is logarithmic.
        areas: label -> (m, 2) corners of a shaded polygon.
        lines: label -> (m, 2) points of a line that does not change with the steps.
    """

    title: str
    xlabel: str
    ylabel: str
    curves: Sequence[Curve]
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    log: bool = False
    areas: Mapping[str, np.ndarray] = field(default_factory=dict)
    lines: Mapping[str, np.ndarray] = field(default_factory=dict)


def slider(panels: Sequence[SliderPanel], steps: np.ndarray, *, name: str, alt: str,
           readings: Mapping[str, np.ndarray] | None = None) -> str:
    """The figure as HTML for a notebook's output.

    Args:
        panels: drawn in a row; each curve has one value per frame.
        steps: (frames,) the training step of each frame.
        name: made of letters, digits and hyphens; unique on the page.
        alt: the finding in words.
        readings: label -> (frames,) numbers shown beside the slider.

    Raises:
        InputError: A curve has another length, or the figure exceeds 150 kB.
    """
    frames = len(steps)
    for panel in panels:
        for curve in panel.curves:
            if len(curve.x) != frames or len(curve.y) != frames:
                raise InputError(f"The curve {curve.label!r} needs one point for each of {frames} frames.")
    width = _WIDTH * len(panels)
    parts = [
        f'<svg viewBox="0 0 {width} {_HEIGHT + 26}" role="img" aria-label="{html.escape(alt)}" '
        'style="width:100%;height:auto;font:12px sans-serif" fill="currentColor">'
    ]
    parts += [_panel(panel, i, name) for i, panel in enumerate(panels)]
    parts += [_legend(panels), "</svg>"]
    values = {label: [f"{v:.3g}" if np.isfinite(v) else "-" for v in array]
              for label, array in (readings or {}).items()}
    table = html.escape(repr(values).replace("'", '"'))
    text = (
        f'<div class="gfm-slider" id="{name}" data-steps="{",".join(str(int(s)) for s in steps)}" '
        f'data-readings="{table}">\n' + "\n".join(parts) + "\n"
        '<div class="gfm-slider-controls" hidden style="display:none;gap:.8em;align-items:center">'
        '<button type="button">Play</button>'
        f'<input type="range" min="0" max="{frames - 1}" value="{frames - 1}" style="flex:1" '
        'aria-label="training step">'
        '<output style="min-width:16em"></output></div>\n'
        f"<script>{script(name)}</script>\n</div>"
    )
    if len(text) > _MOST_BYTES:
        raise InputError(f"The slider {name!r} takes {len(text) // 1000} kB; give fewer frames (at most 150 kB).")
    return text


def script(name: str) -> str:
    """The inline script of the slider called ``name``."""
    return _SCRIPT.replace("NAME", name)


def _panel(panel: SliderPanel, index: int, name: str) -> str:
    left, right = index * _WIDTH + _LEFT, (index + 1) * _WIDTH - _RIGHT
    top, bottom = _TOP, _HEIGHT - _BOTTOM
    scale = np.log10 if panel.log else np.asarray
    low, high = (float(scale(v)) for v in panel.ylim)

    def place(x: np.ndarray, y: np.ndarray) -> str:
        with np.errstate(invalid="ignore", divide="ignore"):
            px = left + (np.asarray(x, float) - panel.xlim[0]) / (panel.xlim[1] - panel.xlim[0]) * (right - left)
            py = bottom - (scale(np.asarray(y, float)) - low) / (high - low) * (bottom - top)
        inside = np.clip(np.stack([px, py], -1), -2000, 4000)
        return " ".join("-" if not np.isfinite(p).all() else f"{p[0]:.1f},{p[1]:.1f}" for p in inside)

    clip = f"{name}-clip-{index}"
    out = [f'<clipPath id="{clip}"><rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>'
           "</clipPath>",
           f'<text x="{left}" y="{top - 10}" font-weight="bold">{html.escape(panel.title)}</text>',
           f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">'
           f"{html.escape(panel.xlabel)}</text>",
           f'<text transform="translate({left - 44},{(top + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
           f"{html.escape(panel.ylabel)}</text>",
           f'<path d="M{left},{top}V{bottom}H{right}" fill="none" stroke="currentColor"/>']
    for value in _ticks(*panel.xlim):
        x = left + (value - panel.xlim[0]) / (panel.xlim[1] - panel.xlim[0]) * (right - left)
        out.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.4g}</text>')
    for value in _ticks(low, high):
        y = bottom - (value - low) / (high - low) * (bottom - top)
        out.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10**value if panel.log else value:.3g}</text>'
        )
    out.append(f'<g clip-path="url(#{clip})" fill="none" stroke-linejoin="round">')
    for label, corners in panel.areas.items():
        out.append(f'<polygon points="{place(*np.asarray(corners).T)}" fill="{style.COLOURS["vermilion"]}" '
                   f'fill-opacity="0.14"><title>{html.escape(label)}</title></polygon>')
    for label, line in panel.lines.items():
        out.append(f'<polyline points="{place(*np.asarray(line).T)}" stroke="currentColor" stroke-opacity="0.45" '
                   f'stroke-dasharray="3 3"><title>{html.escape(label)}</title></polyline>')
    for curve in panel.curves:
        look = _look(curve.role)
        for start, piece in _pieces(place(curve.x, curve.y)):
            out.append(f'<polyline class="run" {look} points="{piece}" data-from="{start}"/>')
        out.append(f'<circle class="now" r="4.5" fill="{_colour(curve.role)}" stroke="none" visibility="hidden"/>')
    return "\n".join([*out, "</g>"])


def _pieces(points: str) -> list[tuple[int, str]]:
    """Unbroken stretches of a list of points, each with the frame at which it starts."""
    found = []
    for gap, stretch in groupby(enumerate(points.split(" ")), key=lambda numbered: numbered[1] == "-"):
        if not gap:
            frames, piece = zip(*stretch, strict=True)
            found.append((frames[0], " ".join(piece)))
    return found


def _legend(panels: Sequence[SliderPanel]) -> str:
    seen: dict[str, str] = {}
    for panel in panels:
        for curve in panel.curves:
            seen.setdefault(curve.label, curve.role)
    out, x = [], _LEFT
    for label, role in seen.items():
        out.append(f'<path d="M{x},{_HEIGHT + 14}h26" fill="none" {_look(role)} stroke-opacity="1"/>'
                   f'<text x="{x + 32}" y="{_HEIGHT + 18}">{html.escape(label)}</text>')
        x += 50 + 7 * len(label)
    return "\n".join(out)


def _colour(role: str) -> str:
    colour = style.ROLES[role]["color"]
    return "currentColor" if colour == style.COLOURS["black"] else colour  # black would vanish on a dark page


def _look(role: str) -> str:
    entry = style.ROLES[role]
    dash = entry["linestyle"]
    pattern = "" if isinstance(dash, str) else ' stroke-dasharray="' + " ".join(f"{1.3 * d:g}" for d in dash[1]) + '"'
    return f'stroke="{_colour(role)}" stroke-width="{entry["linewidth"]:g}"{pattern}'


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers between two ends."""
    rough = (high - low) / 4
    unit = 10.0 ** np.floor(np.log10(rough))
    step = min((m * unit for m in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    return [round(k * step, 12) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


_SCRIPT = """
(function(){
var box=document.getElementById("NAME"),bar=box.querySelector(".gfm-slider-controls"),
input=bar.querySelector("input"),button=bar.querySelector("button"),text=bar.querySelector("output"),
steps=box.dataset.steps.split(","),readings=JSON.parse(box.dataset.readings),timer=null;
var lines=Array.prototype.map.call(box.querySelectorAll("polyline.run"),function(e){
 var group=e.parentNode,dot=e.nextElementSibling;
 while(dot&&dot.tagName!=="circle")dot=dot.nextElementSibling;
 return {e:e,p:e.getAttribute("points").split(" "),from:+e.dataset.from,dot:dot};});
function show(t){
 lines.forEach(function(l){l.dot.setAttribute("visibility","hidden");});
 lines.forEach(function(l){
  var m=Math.max(0,Math.min(l.p.length,t-l.from+1));
  l.e.setAttribute("points",l.p.slice(0,m).join(" "));
  if(m>0&&t<l.from+l.p.length){var q=l.p[m-1].split(",");
   l.dot.setAttribute("cx",q[0]);l.dot.setAttribute("cy",q[1]);l.dot.setAttribute("visibility","visible");}});
 var out="step "+steps[t];
 Object.keys(readings).forEach(function(k){out+=" \\u00b7 "+k+" "+readings[k][t];});
 text.textContent=out;input.setAttribute("aria-valuetext",out);}
function stop(){clearInterval(timer);timer=null;button.textContent="Play";}
input.addEventListener("input",function(){stop();show(+input.value);});
button.addEventListener("click",function(){
 if(timer){stop();return;}
 if(+input.value>=steps.length-1)input.value=0;
 button.textContent="Pause";
 timer=setInterval(function(){input.value=+input.value+1;show(+input.value);
  if(+input.value>=steps.length-1)stop();},40);});
if(window.matchMedia&&matchMedia("(prefers-reduced-motion: reduce)").matches)button.style.display="none";
bar.hidden=false;bar.style.display="flex";show(+input.value);
})();
"""
