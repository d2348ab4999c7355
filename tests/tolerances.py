"""Every tolerance of the tests, with its reason: model x recipe x metric.

What a bundle must reach is not here but in medge.runtime.bundles.gates, because it ships.
"""

# The same fp32 arithmetic in another order, on embeddings of length one.
FP32_EMBEDDING = 2e-5
# A batch and single inputs take other kernels (matrix against vector): rounding of the last bits.
BATCH_INVARIANCE = {
    "fp32": 2e-6,
    "fp16": 2e-3,
    "int8": 0.0,
    "int8-static": 2e-6,
    "int4": 2e-6,
    "fast": 0.0,
    "turbo": 0.0,
}
# Zero-padding and folding are exact in real numbers; in fp32 the sums are regrouped.
EXACT_REWRITE = 2e-5
# AUC and similar against scikit-learn in float64.
METRIC = 1e-9
# Grey levels between one test card's encodings: lossy JPEG rounds its coefficients, YBR each channel by itself.
COLOUR_LEVELS = 6
# Logits, of the order of one, after a reused prefix against a fresh start: the cache is in 16 bits, and a batch of another
# size takes other kernels. A cache that had forgotten a position would be wrong by a hundred times as much.
CACHED_LOGITS = 1e-2
