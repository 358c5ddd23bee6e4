"""Softmax and its cross entropy, over the last of two axes."""

import numpy as np

from fic_runtime.heads.ood_scores import Array


def softmax(logits: Array) -> Array:
    """Return the probabilities of rows of logits, (n, labels)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def cross_entropies(logits: Array, targets: Array) -> Array:
    """Return -log of the true label's probability for each row of logits, (n,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(
        np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
    )
