"""The page for people: files of this package, and the routes that serve them."""
