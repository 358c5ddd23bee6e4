"""Writing bundles, and proving that they answer as Keras does."""

from .export import export_bundle as export_bundle
from .head_only import export_head as export_head
