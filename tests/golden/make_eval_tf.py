"""Re-bless `eval_tf.npz`: what TensorFlow's own `tf.image.resize` gives for a few sizes.

    pip install tensorflow-cpu numpy && python tests/golden/make_eval_tf.py

TensorFlow is needed only here. The inputs are made by integer arithmetic, so the file holds the results alone.
"""

from pathlib import Path

import numpy as np

# (height, width, side): up, down, odd, extreme ratios, and equal sizes.
CASES = [(28, 28, 112), (64, 64, 112), (150, 97, 112), (113, 112, 112), (7, 300, 64), (512, 384, 96), (31, 45, 448)]


def source(height: int, width: int) -> np.ndarray:
    """A picture with detail in every direction: (height, width, 3) uint8."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.int64)
    return ((x * 37 + y * 91 + c * 53 + (x * y * (c + 3)) % 127 + (x ^ y)) % 256).astype(np.uint8)


def main() -> None:
    import tensorflow as tf

    results = {}
    for height, width, side in CASES:
        resized = tf.image.resize(source(height, width), [side, side], method="bilinear", antialias=False).numpy()
        # One channel of the large one keeps the file small.
        results[f"{height}x{width}to{side}"] = resized.astype(np.uint8)[..., : 1 if side > 200 else 3]
    np.savez_compressed(Path(__file__).with_name("eval_tf.npz"), **results)


if __name__ == "__main__":
    main()
