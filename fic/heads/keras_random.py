"""Random numbers as Keras draws them on TensorFlow for a seed, without either.

So a head that starts here has the weights, and drops out the units, that it would have in Keras.
Keras draws a seed for each layer from Python's generator; TensorFlow makes numbers of it with the
counter-based generator Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
3", 2011), whose key it makes of the seed by one more round of the same.
"""

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_SCRAMBLING_KEY = (0x3EC8F720, 0x02461E29)


def layer_seeds(seed: int, count: int) -> list[int]:
    """Return the seeds that the first `count` layers draw after `keras.utils.set_random_seed`."""
    generator = random.Random(seed)
    return [generator.randint(1, 10**9) for _ in range(count)]


def glorot_uniform(seed: int, inputs: int, outputs: int) -> NDArray[np.float32]:
    """Return the first kernel of a dense layer, (inputs, outputs)."""
    limit = np.float32(math.sqrt(3.0 / max(1.0, (inputs + outputs) / 2.0)))
    values = uniform(seed, 0, inputs * outputs) * (limit + limit) - limit
    return values.reshape(inputs, outputs)


def uniform(seed: int, call: int, count: int) -> NDArray[np.float32]:
    """Return numbers from 0 to 1, (count,), of the call with this number to a seed's generator."""
    seeds = [np.array(word, np.uint64) for word in (seed, 0, call, 0)]
    key_low, key_high, counter_low, counter_high = map(int, _philox(seeds, _SCRAMBLING_KEY))
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    counters = [
        *(blocks, np.zeros_like(blocks)),
        *(np.full_like(blocks, counter_low), np.full_like(blocks, counter_high)),
    ]
    words = _philox(counters, (key_low, key_high))
    bits = np.stack(words, axis=1).astype(np.uint32).reshape(-1)[:count]
    # 23 random bits as the fraction of a number from 1 to 2.
    bits &= np.uint32(0x7FFFFF)
    bits |= np.uint32(0x3F800000)
    return bits.view(np.float32) - np.float32(1)


def _philox(
    counters: Sequence[NDArray[np.uint64]], key: tuple[int, int]
) -> list[NDArray[np.uint64]]:
    """Return four random 32-bit words for each counter of four words, all as uint64 arrays."""
    one, two, three, four = counters
    low_key, high_key = key
    for _ in range(_ROUNDS):
        first, third = one * _MULTIPLIERS[0], three * _MULTIPLIERS[1]
        one, two, three, four = (
            (third >> _32) ^ two ^ np.uint64(low_key),
            third & _LOW,
            (first >> _32) ^ four ^ np.uint64(high_key),
            first & _LOW,
        )
        low_key = (low_key + _KEY_STEPS[0]) & 0xFFFFFFFF
        high_key = (high_key + _KEY_STEPS[1]) & 0xFFFFFFFF
    return [one, two, three, four]
