"""Workflows for tests, loaded by the real service through a langgraph.json of their own."""
