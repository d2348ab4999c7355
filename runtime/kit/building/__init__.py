"""Making a kit, at the makers': the files of every component, their hashes, and what lies beside them on the stick."""
