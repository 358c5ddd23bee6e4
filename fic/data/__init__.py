"""Which pictures there are, which class each one belongs to, and how they are split."""

from .dataset import Dataset as Dataset
from .dataset import Split as Split
from .source import Pictures as Pictures
from .source import Source as Source
from .source import read_pictures as read_pictures
