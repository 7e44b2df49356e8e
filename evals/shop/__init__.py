"""The demo shop's right outcomes. Only tests and the demo's check read them."""
