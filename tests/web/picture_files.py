"""Picture files whose meaning a browser and OpenCV would read differently, made for the tests."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

ORIENTATIONS = range(1, 9)


def drawing(height=150, width=110):
    """Return smooth colors, uint8 RGB, of which no turn or mirror looks like another."""
    down, across = np.mgrid[:height, :width]
    red = 255 * down / height
    green = 255 * across / width
    blue = 127 + 100 * np.sin(down / 9 + across / 17)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def exif(orientation):
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def encoded(suffix, pixels=None, **options):
    file = io.BytesIO()
    Image.fromarray(drawing() if pixels is None else pixels).save(file, suffix, **options)
    return file.getvalue()


def turned(suffix, orientation):
    options = {"quality": 95, "subsampling": 0} if suffix == "JPEG" else {"lossless": True}
    return encoded(suffix, exif=b"Exif\0\0" + exif(orientation), **options)


def with_chunk(png, kind, body):
    """Put a chunk behind IHDR, which always has the same length."""
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + struct.pack(">I", len(body)) + kind + body + checksum + png[33:]


def xyz(*values):
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def swapping_profile():
    """Return an ICC profile whose red and green are exchanged: it would change every color."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    tags = {
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"gXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(80),
        b"cprt": b"text\0\0\0\0none\0",
    }  # fmt: skip
    at, directory, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        directory += name + struct.pack(">II", at + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", 0, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    header = header.ljust(128, b"\0") + struct.pack(">I", len(tags))
    whole = header + directory + body
    return struct.pack(">I", len(whole)) + whole[4:]


def see_through():
    """Return RGBA with colors where nothing is to be seen."""
    alpha = np.zeros((150, 110, 1), np.uint8)
    alpha[::2] = 40
    return np.concatenate([drawing(), alpha], axis=2)


def bitmap_with_alpha():
    """Return a BMP of 32 bits with a mask for alpha (BITMAPV4HEADER)."""
    pixels = see_through()[::-1, :, [2, 1, 0, 3]]
    height, width = pixels.shape[:2]
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, pixels.nbytes, 0, 0, 0, 0)
    header += struct.pack("<IIII4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + pixels.nbytes, 0, 0, 122) + header + pixels.tobytes()


def sixteen_bits():
    return cv2.imencode(".png", drawing()[..., ::-1].astype(np.uint16) * 256 + 199)[1].tobytes()


def every_file():
    """Yield name, content and how many levels the pixels may differ after the resize."""
    for orientation in ORIENTATIONS:
        for suffix, levels in (("JPEG", 2), ("PNG", 0), ("WebP", 0)):
            yield f"{suffix} turned {orientation}", turned(suffix, orientation), levels
    yield "PNG with alpha", encoded("PNG", see_through()), 0
    yield "WebP with alpha", encoded("WebP", see_through(), quality=90, exact=True), 2
    yield "BMP with alpha", bitmap_with_alpha(), 0
    yield "grey PNG with alpha", encoded("PNG", see_through()[..., 2:]), 0
    yield "PNG of 16 bits", sixteen_bits(), 0
    yield "PNG with a gamma", with_chunk(encoded("PNG"), b"gAMA", struct.pack(">I", 100_000)), 0
    profile = swapping_profile()
    yield "PNG with a profile", encoded("PNG", icc_profile=profile), 0
    yield "JPEG with a profile", encoded("JPEG", icc_profile=profile, quality=95), 2
    yield "WebP with a profile", encoded("WebP", icc_profile=profile, lossless=True), 0
    yield "grey JPEG", encoded("JPEG", drawing()[..., 2], quality=95), 2
    yield "progressive JPEG", encoded("JPEG", progressive=True, quality=90), 2
    yield "BMP", encoded("BMP"), 0
    yield "GIF", encoded("GIF"), 0
    frames = [Image.fromarray(255 - drawing())]
    yield "animated WebP", encoded("WebP", save_all=True, append_images=frames, lossless=True), 0
