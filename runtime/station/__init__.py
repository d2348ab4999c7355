"""The clinic's station: what it holds, what it has to do, and how others reach it."""
