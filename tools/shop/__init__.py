"""The demo shop: its data, its tools and its payment provider. The machinery never imports this."""
