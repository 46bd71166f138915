"""Configs: one file a data set, `get_config(objective)`."""
