"""Routes of a station that holds studies: what came, what is done with it, and what is written about it."""
