"""What a station has to do: jobs that survive the process that does them, each done once."""
