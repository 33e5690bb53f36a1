"""A picture in, the text that can be read in it out: recognised on this machine, by models that lie in a package."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from reindex.parsers import Context, Rejected
from reindex.records import Block, ParsedDocument, RejectReason, Shape

if TYPE_CHECKING:
    from PIL.Image import Image

_THREADS = 2
# Pixels of the longer side in which text is looked for: more find hardly more of a page and take thrice as long.
_LONGEST_SIDE = 1600


def read_picture(data: bytes, context: Context) -> Iterator[ParsedDocument]:
    """Yield the text line by line; a TIFF may have several pages."""
    if not context.parsing.ocr:
        raise Rejected(RejectReason.UNSUPPORTED, "pictures are read only with parsing.ocr: true")
    blocks = [
        Block(text=line, shape=Shape.LINE, page=page)
        for page, picture in _pages(data, context.limits.pages)
        for line in _lines(picture)
    ]
    yield ParsedDocument(title="", blocks=tuple(blocks))


def recognise_page(png: bytes) -> str:
    """Return the text of a page that is given as a picture, in lines."""
    return "\n".join(line for _, picture in _pages(png, most=1) for line in _lines(picture))


def _pages(data: bytes, most: int) -> Iterator[tuple[int, Image]]:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(io.BytesIO(data))
            pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
            if pages > most:
                raise Rejected(RejectReason.TOO_MANY_PAGES, f"{pages:,} pages; limits.pages allows {most:,}")
            for page in range(pages):
                picture.seek(page)
                yield page + 1 if pages > 1 else 0, ImageOps.exif_transpose(picture).convert("RGB")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise Rejected(RejectReason.TOO_DENSE, f"{error}") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise Rejected(RejectReason.BROKEN, f"picture: {error}") from error


def _lines(picture: Image) -> list[str]:
    import numpy as np

    # The engine reads colours as OpenCV orders them.
    result = _engine()(np.asarray(picture)[:, :, ::-1])
    return [text.strip() for text in result.txts or () if text.strip()]


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    settings = {
        "Global.log_level": "critical",
        "Det.limit_type": "max",
        "Det.limit_side_len": _LONGEST_SIDE,
        "EngineConfig.onnxruntime.intra_op_num_threads": _THREADS,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return RapidOCR(params=settings)
