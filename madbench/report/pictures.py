"""How pictures are written: as PNG and as SVG, the same bytes for the same results."""

import pathlib

import matplotlib
from matplotlib.figure import Figure

FORMATS = ("png", "svg")
# Without these, names within an SVG are random, and text needs the writer's fonts.
_SVG = {"svg.hashsalt": "madbench", "svg.fonttype": "path"}


def save(figure: Figure, folder: pathlib.Path, name: str) -> list[str]:
    """Writes a figure at its own resolution; returns the names of the files.

    What a figure shows as an image, or draws rasterized, is an image within the SVG too.
    """
    files = [f"{name}.{format}" for format in FORMATS]
    with matplotlib.rc_context(_SVG):
        for file in files:
            metadata = {"Date": None} if file.endswith("svg") else None
            figure.savefig(folder / file, dpi="figure", metadata=metadata)
    return files
