"""Figures of the training for TensorBoard to show."""

from pathlib import Path

import tensorflow as tf

from ..progress import EpochFigures


class EventFiles:
    """Writes each epoch's figures as TensorBoard events, without needing TensorBoard itself."""

    def __init__(self, folder: Path | None) -> None:
        self._writers = (
            {}
            if folder is None
            else {
                kind: tf.summary.create_file_writer(str(folder / kind))
                for kind in ("train", "validation")
            }
        )

    def __enter__(self) -> "EventFiles":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def write(self, figures: EpochFigures) -> None:
        """Add the figures of one epoch."""
        for kind, values in (
            ("train", {"loss": figures.loss, "accuracy": figures.accuracy}),
            ("validation", {"loss": figures.val_loss, "accuracy": figures.val_accuracy}),
        ):
            if kind not in self._writers:
                continue
            # `tf.summary.scalar` needs the TensorBoard package; what it writes is this.
            metadata = tf.compat.v1.SummaryMetadata(data_class=1)  # DATA_CLASS_SCALAR
            metadata.plugin_data.plugin_name = "scalars"
            with self._writers[kind].as_default():
                for name, value in values.items():
                    tensor = tf.constant(value, tf.float32)
                    tf.summary.write(f"epoch_{name}", tensor, figures.epoch, metadata)
