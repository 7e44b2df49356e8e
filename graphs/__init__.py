"""Workflows as LangGraph graphs, and the runner that carries an execution through one."""
