"""The head, the trainable part of a classifier: built, custom, or in a file."""
