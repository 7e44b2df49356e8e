"""Performance: graphs to measure with, and what is measured with them."""
