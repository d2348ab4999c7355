"""Native decoders at arm's length: each in a process of its own that may compute, and nothing else."""
