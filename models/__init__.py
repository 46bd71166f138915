"""One backbone, shared by every objective."""
