"""The station's page for people: plain HTML, CSS and modules, that the browser gets from the station and from nowhere else."""
