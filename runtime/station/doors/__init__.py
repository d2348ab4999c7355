"""Who may enter the station, and over what: users, tokens, sessions, failed logins, certificates."""
