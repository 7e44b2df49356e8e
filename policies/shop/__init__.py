"""The demo shop's rules about money, orders and addresses."""
