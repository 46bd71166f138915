"""Pods: ahead-of-time compilation and its reading, chips, backends of a sweep."""
