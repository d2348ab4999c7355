"""The kit: what is carried to a machine without a network on a stick, and what is made of it there."""
