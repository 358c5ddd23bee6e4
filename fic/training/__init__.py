"""Training of heads, and fine-tuning: the only wing with gradients."""

from .pipeline import train as train
