"""What the station does with a study: which pictures it looks at, what its models say of them, and what is like them."""
