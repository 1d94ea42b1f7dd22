"""Ray Data on stages: sources of files, packed shards, and tables as a sink."""
