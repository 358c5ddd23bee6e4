"""Data sets: pictures, their classes, and their split."""

from .dataset import Dataset as Dataset
from .dataset import Split as Split
from .source import Pictures as Pictures
from .source import Source as Source
from .source import read_pictures as read_pictures
