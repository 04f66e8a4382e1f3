"""One image file or its bytes, read by Pillow: what all readers of images share, and the one shape that a set needs."""

import dataclasses
import errno
import io
import pathlib
from collections.abc import Callable

import numpy as np

from madbench.errors import UserError

FILTERS = ("lanczos", "bicubic", "bilinear", "box", "hamming", "nearest")
CROPS = ("center", "none")
# What comes and goes with a machine or a network, and says nothing of a file.
PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT)
GREY = ("1", "L", "LA", "La")  # Pillow's modes


class Unreadable(UserError):
    """This image cannot be used, whatever the settings."""


def look[T](file: pathlib.Path | bytes, name: str, at: Callable[..., T]) -> T:
    """`at(image)` of an opened image.

    Deep ones (16 bits, floats) are refused: Pillow would cut what is above 255, and call the image white, or black.

    Args:
      file: or its content.
      name: of the image, for messages.
      at: of a Pillow image whose pixels are not read yet; may raise UserError.

    Raises:
      Unreadable: one line, whatever a damaged file makes of a decoder.
    """
    from PIL import Image, UnidentifiedImageError  # slow to import

    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            if image.mode[0] in "IF":
                raise Unreadable(
                    f"{name} has more than 8 bits a level (Pillow's mode {image.mode}); convert it to 8 bits"
                )
            return at(image)
    except UserError:
        raise
    except MemoryError:  # nor is this
        raise UserError(f"{name} cannot be read now: no memory; run the same command again") from None
    except UnidentifiedImageError:  # its own text names the file again, or an address in memory
        raise Unreadable(f"{name} cannot be read as an image: none of the formats that Pillow knows") from None
    except OSError as error:
        if error.errno in PASSING:  # not the file's fault: it must not be left out for good
            raise UserError(f"{name} cannot be read now: {error.strerror}; run the same command again") from None
        raise Unreadable(f"{name} cannot be read as an image: {' '.join(str(error).split())[:200]}") from None
    except Exception as error:
        raise Unreadable(f"{name} cannot be read as an image: {' '.join(str(error).split())[:200]}") from None


@dataclasses.dataclass(frozen=True)
class Form:
    """The one form that the images of a set are brought into.

    Attributes:
      channels: 1, by the luma of ITU-R 601 where there are colours, or 3. What is transparent is laid on white.
      resolution: height and width; 0 for those of the file.
      resize: one of `FILTERS`, as Pillow computes them in 8 bits.
      crop: "center" takes the square in the middle of an image that is none; "none" refuses it. Where the resolution is
        0, nothing is cropped.
      upright: the image is turned as its EXIF orientation says.
    """

    channels: int
    resolution: int = 0
    resize: str = "lanczos"
    crop: str = "center"
    upright: bool = True

    def pixels(self, file: pathlib.Path | bytes, name: str) -> np.ndarray:
        """uint8 `[height, width, channels]` of an image file, or of its content.

        Raises:
          Unreadable: it cannot be decoded.
          UserError: it is no square, and `crop` is "none".
        """
        return look(file, name, lambda image: self._fitted(image, name))

    def _fitted(self, image, name: str) -> np.ndarray:
        from PIL import Image, ImageOps

        if self.upright:
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if self.channels == 1 else "RGB")
        if self.resolution:
            width, height = image.size
            if width != height:
                if self.crop == "none":
                    raise UserError(f"{name} is {width}x{height}, no square; set config.data.crop='center', or cut it")
                side = min(width, height)
                left, top = (width - side) // 2, (height - side) // 2
                image = image.crop((left, top, left + side, top + side))
            if image.size != (self.resolution, self.resolution):
                image = image.resize((self.resolution, self.resolution), Image.Resampling[self.resize.upper()])
        pixels = np.asarray(image)
        return pixels[..., None] if pixels.ndim == 2 else pixels


def check_form(resolution: int, resize: str, crop: str) -> None:
    """Raises UserError (one line) where these settings of config.data are none of a `Form`."""
    if type(resolution) is not int or resolution < 0:
        raise UserError(f"config.data.resolution must be 0 (as the images are) or a size in pixels, not {resolution!r}")
    check_choice("resize", resize, FILTERS)
    check_choice("crop", crop, CROPS)


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Raises UserError (one line) unless `config.data.NAME` is one of `choices`."""
    if value not in choices:
        raise UserError(f"config.data.{name} must be one of {', '.join(map(str, choices))}, not {value!r}")
