"""Heads: from bottlenecks to answers."""
