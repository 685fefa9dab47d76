"""One file a schema change, oldest first. A published one is never edited."""
