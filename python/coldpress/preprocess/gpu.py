"""JPEG files decoded by a GPU's own engines and resized there: Pillow's resize to the byte, on pixels that are not.

nvImageCodec or, through torchvision, nvJPEG decode; they transform and upsample with other roundings than libjpeg, so
this is a way of fast decoding, whose distance from the exact pixels the certificate measures. What is not a whole,
plain RGB file goes the usual way. No file is decoded here or there by chance: the same file gives the same bytes. That
holds too where the CPU takes a share of the files, so that both are busy: their contents choose.
Never run on a GPU yet.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from coldpress import ops
from coldpress.errors import ColdpressError
from coldpress.ops import Axis
from coldpress.preprocess.resize import resized_size
from coldpress.types import ImageSpec

Decode = Callable[[Sequence[bytes]], Sequence[torch.Tensor | None]]
"""Files to RGB pixels (height, width, 3) uint8 on a device; None for one that it cannot decode."""

_START, _END = b"\xff\xd8", b"\xff\xd9"


class GpuImages:
    """Decodes, resizes and crops JPEG files; calls of several threads take turns.

    Parameters
    ----------
    spec : with a fixed output size; its `fast_decode` says how many of the files are for the GPU.
    decode, device : what decodes, and where its pixels are.
    max_pixels : larger files, before or after resizing, are left to the usual way, which says so.

    Raises
    ------
    ColdpressError
        If the spec has no fixed size, or the compiled image part is missing.
    """

    def __init__(self, spec: ImageSpec, decode: Decode, device: torch.device, max_pixels: int) -> None:
        from coldpress.preprocess.image import native, native_transform

        if spec.size is None or native is None:
            raise ColdpressError("fast_decode gpu needs images of one size, and the compiled part _image; leave it out")
        self._image, self._transform = native, native_transform(spec)
        self.spec, self.size, self.max_pixels = spec, spec.size, max_pixels
        self.percent = int(str(spec.fast_decode).partition(":")[2] or 100)
        self._decode, self._device = decode, device
        self._turn = threading.Lock()

    def __call__(self, files: Mapping[int, bytes]) -> dict[int, npt.NDArray[np.uint8]]:
        """Pixels (height, width, 3) of those files that are for the GPU, by number."""
        chosen = [number for number, file in files.items() if self._takes(file)]
        if not chosen:
            return {}
        with self._turn, torch.inference_mode():
            decoded = self._decode([files[number] for number in chosen])
            pairs = [(n, pixels) for n, pixels in zip(chosen, decoded, strict=True) if pixels is not None]
            resized = self._resized([pixels for _, pixels in pairs])
        return dict(zip((number for number, _ in pairs), resized, strict=True))

    def _takes(self, file: bytes) -> bool:
        if not file.startswith(_START) or not file.rstrip(b"\0").endswith(_END):
            return False
        if zlib.crc32(file) % 100 >= self.percent:
            return False
        try:
            with Image.open(BytesIO(file)) as image:
                size, mode = (image.height, image.width), image.mode
        except Exception:  # Pillow's own path finds out what is wrong
            return False
        sizes = (size, resized_size(self.spec, *size))
        return mode == "RGB" and all(height * width <= self.max_pixels for height, width in sizes)

    def _resized(self, images: Sequence[torch.Tensor]) -> npt.NDArray[np.uint8]:
        plans = []
        for pixels in images:
            height, width = pixels.shape[:2]
            y, x, vertical_first = self._image.resize_plan(height, width, self._transform)
            plans.append(((height, width), Axis(*y), Axis(*x), vertical_first))
        joined = torch.cat([pixels.reshape(-1) for pixels in images]) if images else torch.empty(0, dtype=torch.uint8)
        plan = ops.plan_batch(plans).to(self._device)
        return np.asarray(ops.resize_images(joined.to(self._device), plan, self.size).cpu().numpy())


def open_gpu(spec: ImageSpec, max_pixels: int) -> GpuImages:
    """The current GPU with its decoder; raises ColdpressError as :func:`open_decoder` and :class:`GpuImages` do."""
    if not torch.cuda.is_available():
        raise ColdpressError("fast_decode gpu needs a GPU, and torch sees none; leave it out, or use fast_decode alone")
    device = torch.device("cuda", torch.cuda.current_device())
    return GpuImages(spec, open_decoder(device), device, max_pixels)


def open_decoder(device: torch.device) -> Decode:
    """What decodes JPEG files on a GPU: nvImageCodec where it is installed, else torchvision.

    Raises
    ------
    ColdpressError
        If neither package is installed.
    """
    for opened in (_nvimagecodec, _torchvision):
        try:
            return opened(device)
        except ImportError:
            continue
    raise ColdpressError(
        "fast_decode gpu needs nvImageCodec or torchvision: pip install 'coldpress[gpu]', or torchvision"
    )


def _nvimagecodec(device: torch.device) -> Decode:
    from nvidia import nvimgcodec

    decoder = nvimgcodec.Decoder(device_id=device.index or 0)
    params = nvimgcodec.DecodeParams(color_spec=nvimgcodec.ColorSpec.SRGB, apply_exif_orientation=False)

    def decode(files: Sequence[bytes]) -> list[torch.Tensor | None]:
        stream = torch.cuda.current_stream(device).cuda_stream
        images = decoder.decode(list(files), params=params, cuda_stream=stream)
        return [None if image is None else torch.as_tensor(image, device=device) for image in images]

    return decode


def _torchvision(device: torch.device) -> Decode:
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(files: Sequence[bytes]) -> list[torch.Tensor | None]:
        encoded = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        try:
            images = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
        except RuntimeError:  # one of them: which?
            if len(files) == 1:
                return [None]
            return [image for file in files for image in decode([file])]
        return [image.permute(1, 2, 0).contiguous() for image in images]

    return decode
