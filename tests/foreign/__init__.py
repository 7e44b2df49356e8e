"""Graphs as somebody else would write them: nothing of Casework in them."""
