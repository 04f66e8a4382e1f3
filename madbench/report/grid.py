"""The fixed-noise sample grid: each row of images is one generation, drawn from the same noise, so that artifacts are
seen to grow downwards; above them real images, to compare with."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_DPI = 100
_WIDTH = 900  # pixels, as wide as a page on GitHub; larger where the images need it
_GAP = 2  # pixels between images
_REAL_GAP = 8  # pixels below the real images
_BLOCK_GAP = 18
_LEFT = 52  # pixels for the generations' numbers
_LOOP_LINE, _BIAS_LINE = 22, 18  # pixels above a row of blocks, and above each block
_CHARACTER = 6.8  # pixels, at most, of one character of a title
_ABSENT = 0.85  # the grey of a pixel that is not finite
_MAX_SCALE = 6
_MIN_IMAGE = 24  # pixels: smaller images are enlarged to this, however wide the page becomes


def plot(
    samples: Mapping[tuple[str, float], np.ndarray],
    titles: Mapping[tuple[str, float], str] | None = None,
    *,
    real: np.ndarray | None = None,
    generations: Sequence[int] | None = None,
    max_columns: int = 10,
    max_rows: int = 20,
) -> Figure:
    """Blocks of small images: a row of blocks per loop, a column of blocks per λ, both in the order of `samples`.

    Inside a block, row t is generation t and each column one fixed noise vector. Images keep their own pixels: each is
    enlarged by a whole number, without smoothing. More rows than `max_rows` are thinned out evenly, keeping the first
    and the last. What is not finite is grey, and what a cell lacks is white. A row of real images, the same in every
    block, stands above the others; its columns have nothing to do with theirs.

    Args:
      samples: (loop, λ) -> images `[generation, n, height, width, channels]`, with 1 or 3 channels, as floats in
        [-1, 1] (beyond is clipped) or uint8. Cells may differ in their number of generations, not in the rest.
      titles: what stands above a block instead of "λ = 0.5".
      real: images of the data, `[n, height, width, channels]`, of the form of the samples.
      generations: the numbers of the rows, as many as the longest cell has; 1, 2, 3, … where None.
      max_columns, max_rows: of images in a block.

    Returns:
      A figure to be saved at its own 100 dots per inch, where one pixel of a sample is a square of whole pixels.

    Raises:
      ValueError: no samples, or arrays of other or of different shapes; one line.
    """
    images = {cell: _to_unit(array, cell)[:, :max_columns] for cell, array in samples.items()}
    if len({array.shape[1:] for array in images.values()}) != 1:
        raise ValueError("a sample grid needs samples, and the same number and shape of them in every cell")
    longest = max(len(array) for array in images.values())
    above = None if real is None else _to_unit(np.asarray(real)[None], "real images")[:, :max_columns]
    if above is not None and above.shape[2:] != next(iter(images.values())).shape[2:]:
        raise ValueError("real images of another shape than the samples")
    numbers = list(range(1, longest + 1)) if generations is None else list(generations)
    if len(numbers) != longest:
        raise ValueError(f"{longest} generations of samples have {len(numbers)} numbers")
    kept = np.unique(np.linspace(0, longest - 1, min(longest, max_rows)).round().astype(int))

    loops = list(dict.fromkeys(loop for loop, _ in images))
    biases = list(dict.fromkeys(bias for _, bias in images))
    shape = next(iter(images.values())).shape[1:4]
    layout = _Layout.fit(shape, len(kept), loops, len(biases), above is not None)
    figure = Figure(figsize=(layout.width / _DPI, layout.height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for i, loop in enumerate(loops):
        layout.write(figure, _LEFT, layout.top(i) - _BIAS_LINE - 5, loop, weight="bold", size=9)
        for j, bias in enumerate(biases):
            if (loop, bias) not in images:
                continue
            title = (titles or {}).get((loop, bias), f"λ = {bias:g}")
            layout.write(figure, layout.left(j), layout.top(i) - 5, title, size=8)
            array = images[loop, bias]
            layout.show(figure, j, layout.top(i) + layout.head, _block(array[kept[kept < len(array)]], layout.scale))
            if above is not None:
                layout.show(figure, j, layout.top(i), _block(above, layout.scale))
        _number(figure, layout, layout.top(i) + layout.head, [numbers[t] for t in kept])
        if above is not None:
            _label(figure, layout, layout.top(i), "real")
    return figure


def _to_unit(array: np.ndarray, cell: tuple[str, float] | str) -> np.ndarray:
    """Images `[generation, n, height, width, channels]` as float `[..., 3]` in [0, 1]."""
    array = np.asarray(array)
    if array.ndim != 5 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"samples of {cell} are {list(array.shape)}, not [generation, n, height, width, 1 or 3]")
    if array.dtype == np.uint8:
        unit = array / 255
    elif np.issubdtype(array.dtype, np.floating):
        unit = np.where(np.isfinite(array), np.clip((array.astype(np.float64) + 1) / 2, 0, 1), _ABSENT)
    else:
        raise ValueError(f"samples of {cell} are {array.dtype}, not floats in [-1, 1] or uint8")
    return np.broadcast_to(unit, (*array.shape[:-1], 3))


def _block(images: np.ndarray, scale: int) -> np.ndarray:
    """One picture `[height, width, 3]` of `images [generation, n, height, width, 3]`, with white gaps between them."""
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    images = np.pad(images, ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=1.0)
    rows, columns, height, width, channels = images.shape
    picture = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    return picture[:-_GAP, :-_GAP]


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Where everything stands, in whole pixels from the top left corner, so that no image is resampled."""

    scale: int
    row: int  # from one generation to the next
    head: int  # from the real images to the first generation; 0 where there are none
    block_width: int
    block_height: int
    width: int
    height: int

    @classmethod
    def fit(
        cls, shape: tuple[int, int, int], n_rows: int, loops: list[str], n_biases: int, has_real: bool
    ) -> "_Layout":
        """The largest whole scale at which the blocks fit the page, for images of `shape` [n, height, width]."""
        n, height, width = shape

        def total(scale: int) -> int:
            return _LEFT + n_biases * (n * (width * scale + _GAP) - _GAP + _BLOCK_GAP)

        least = -(-_MIN_IMAGE // width)
        scale = max([least, *(k for k in range(1, _MAX_SCALE + 1) if total(k) <= _WIDTH)])
        row = height * scale + _GAP
        head = has_real * (height * scale + _REAL_GAP)
        block_width, block_height = n * (width * scale + _GAP) - _GAP, head + n_rows * row - _GAP
        longest = round(_LEFT + _CHARACTER * max(map(len, loops)) + _BLOCK_GAP)
        page = len(loops) * (block_height + _LOOP_LINE + _BIAS_LINE + _BLOCK_GAP)
        return cls(scale, row, head, block_width, block_height, max(total(scale), longest), page)

    def left(self, j: int) -> int:
        return _LEFT + j * (self.block_width + _BLOCK_GAP)

    def top(self, i: int) -> int:
        line = _LOOP_LINE + _BIAS_LINE
        return line + i * (self.block_height + line + _BLOCK_GAP)

    def show(self, figure: Figure, j: int, top: int, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        bottom = self.height - top - height
        box = (self.left(j) / self.width, bottom / self.height, width / self.width, height / self.height)
        axis = figure.add_axes(box)
        axis.imshow(picture, interpolation="nearest", aspect="auto")
        axis.axis("off")

    def write(self, figure: Figure, x: float, y: float, text: str, **style) -> None:
        # A title is text, never a formula: a dollar sign stays one.
        figure.text(x / self.width, 1 - y / self.height, text, color="#222222", parse_math=False, **style)


def _number(figure: Figure, layout: _Layout, top: int, numbers: list[int]) -> None:
    """The generations beside the first block of a row, as many as there is room for, and always the first."""
    every = next(k for k in (1, 2, 5, 10, 20, 50) if k * layout.row >= 12 or k == 50)
    for k in range(0, len(numbers), every):
        _label(figure, layout, top + k * layout.row, f"t = {numbers[k]}" if k == 0 else str(numbers[k]))


def _label(figure: Figure, layout: _Layout, top: int, text: str) -> None:
    """What a row of images is, beside it."""
    layout.write(figure, _LEFT - 8, top + (layout.row - _GAP) / 2, text, size=8, ha="right", va="center")
