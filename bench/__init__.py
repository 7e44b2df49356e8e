"""Performance: graphs to measure with."""
