"""Pictures of any kind to uint8 RGB pixels: decode, turn upright, resize."""

from .loading import ImageSource as ImageSource
from .loading import PillowImage as PillowImage
from .loading import decode_image as decode_image
from .loading import load_image as load_image
from .loading import read_image as read_image
from .loading import to_rgb as to_rgb
from .memory import decoding as decoding
from .resizing import Pixels8 as Pixels8
from .resizing import resize_image as resize_image
