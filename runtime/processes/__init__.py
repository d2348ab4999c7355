"""Native code at arm's length: how processes of medge's own are started, spoken to, limited and ended."""
