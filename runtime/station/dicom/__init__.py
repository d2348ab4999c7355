"""The clinic's own systems: what takes their objects, and what asks them."""
