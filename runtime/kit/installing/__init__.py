"""Putting a kit into a machine that has no station yet: a look at the machine, the service, the first version."""
