"""Training: the only home of gradients."""

from .pipeline import train as train
