"""A folder of collected files as one page, for the makers."""
