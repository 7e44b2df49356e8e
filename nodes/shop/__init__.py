"""The demo shop's specialists, as data, and the offline model's rules for them."""
