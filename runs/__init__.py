"""From a config to a record on disk, for one run and for a comparison of many."""
