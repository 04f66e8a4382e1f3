"""How pictures are written: as PNG and as SVG, the same bytes for the same results."""

import pathlib

import matplotlib
from matplotlib.figure import Figure

FORMATS = ("png", "svg")
_SHARP = 2  # times the pixels of the PNG, of images within an SVG
# Without these, names within an SVG are random, and text needs the writer's fonts.
_SVG = {"svg.hashsalt": "madbench", "svg.fonttype": "path"}


def save(figure: Figure, folder: pathlib.Path, name: str) -> list[str]:
    """Writes a figure at its own resolution; returns the names of the files.

    What a figure shows as an image, or draws rasterized, is an image within the SVG too.
    """
    figure.savefig(folder / f"{name}.png", dpi="figure")
    with matplotlib.rc_context(_SVG):
        figure.savefig(folder / f"{name}.svg", dpi=_SHARP * figure.dpi, metadata={"Date": None})
    return [f"{name}.{format}" for format in FORMATS]
