"""The nodes of a workflow's graph: what happens at each step, never where to go next."""
