"""What every request passes first: the guard, the lock, the login."""
