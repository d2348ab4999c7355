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
# Values of order one after a few operations in fp32, whose last digit is worth 1e-7.
FP32_ROUNDING = 1e-6
# Sums over hundreds of such products, in another order or from another kernel: relative, or of values of order one.
FP32_SUMS = 1e-5
# A whole tower's output before it is normalised, by another graph of the same fp32 arithmetic.
FP32_TOWER = {"rtol": 1e-4, "atol": 3e-5}
# The same of a tower that merges tokens: an average more in each block.
FP32_MERGED_TOWER = {"rtol": 1e-4, "atol": 5e-5}
FP32_MERGED_PACKAGE = {"rtol": 0, "atol": 1e-4}  # and its images as bytes, normalised inside
# An image's tokens for a language model, values up to ten.
FP32_IMAGE_TOKENS = {"rtol": 1e-4, "atol": 1e-4}
# A language model's logits of an image whose tower has 16-bit weights against one of 32 bits; logits differ by more than one.
FP16_IMAGE_LOGITS = 5e-3
# Logits through 18 layers whose channels are in another order, and so all sums: a wrong permutation gives other logits.
PERMUTED_LOGITS = 1e-4
# The same of a stream with channels of zeros: norms are rounded otherwise.
WIDENED_LOGITS = 1e-4
# Hops that compute the same in fp32, as the reports count them: the exporter's part in a bundle's distance.
EXACT_HOP = {"onnx": 1e-5, "coreml": 1e-4, "litert": 1e-5}
# What a package of 16 bits makes of numbers up to a thousand, with the layers that can't take it kept in 32.
FP16_PACKAGE = {"rtol": 2e-3, "atol": 2e-3}
# A small multi-layer perceptron with weights stored so, as a share of its output's norm. S8 saturates on a CPU without VNNI,
# the reason why the target decides: measured there, 0.1. Int4 has 16 levels for 32 weights.
MLP_RELATIVE = {"fp16": 2e-3, "u8": 0.02, "s8": 0.5, "s8 table": 0.01, "int4": 0.12}
# A language model's stages against PyTorch, as a share of their norm: the worst of 18 blocks and the logits.
LANGUAGE_STAGES = {"f16": 0.01, "q8_0": 0.1, "q4_k_m": 0.5}
# Cosine of embeddings by another build of ONNX Runtime: the same graph within rounding, 8-bit rounding for int8.
OTHER_BUILD_COSINE = 0.9999
# Probabilities by another build on other instructions: 8-bit activations round at other places, and a logit is a hundred
# times a cosine's change; the embeddings' own gate (GOLDEN_COSINE) allows that much.
WEB_SCORES = {"int8": 2e-2, "int4": 2e-3}
# Probabilities of a probe whose weights are kept in fp32 against scikit-learn's in float64.
PROBE_PROBABILITY = 2e-4
# An importance matrix: llama.cpp adds up activations of 16-bit weights and caches, PyTorch those of 32 bits.
IMPORTANCE = 2e-3
# The standard's formula gives a grey level's fraction, which is rounded: half a level and fp32's rounding.
GREY_ROUNDING = 0.51
# A divergence over recorded tokens and the rest: a rest of next to nothing is counted as a millionth.
REST_DIVERGENCE = 1e-4
# Mean centred cosine of a CLIP with random weights, 64 wide: no recipe's gate is meant for it, since its weights lie nowhere
# close together and its texts do. A layer that is computed wrongly gives less than 0.9.
RANDOM_CLIP = {"fp32": 0.999999, "fp16": 0.9999, "int8": 0.998, "int4": 0.98}
# Cosines through the stand-in's pooling head in 8 bits against the same head in fp32 on the same tokens, as maps take it apart:
# 0.011 to 0.053 on nine of pydicom's pictures. The centred cosines of 0.998 that int8 reaches allow 0.063.
INT8_HEAD = 0.06
