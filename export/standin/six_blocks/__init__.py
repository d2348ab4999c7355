"""The stand-in before `medsiglip-mini`: 6 vision blocks, 64 patches, X-ray, CT and MRI only.

Kept for what still rests on it: the tests' `checkpoint`, medgemma-mini's vision tower, and the benchmarks whose tables were
measured on it. No command gives it to a user. It goes when those have moved.
"""
