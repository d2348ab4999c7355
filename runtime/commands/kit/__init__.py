"""`medge kit ...`."""
