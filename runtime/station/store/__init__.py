"""What a station holds: studies and their objects, results, settings and the audit log. Nothing acknowledged is ever lost."""
