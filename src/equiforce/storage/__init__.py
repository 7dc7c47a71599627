"""Files that are written whole or not at all, and folders that one process uses at a time."""
