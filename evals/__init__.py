"""Right outcomes, and what holds executions against them. No agent, tool or prompt may import this."""
