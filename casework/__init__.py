"""The foundation: what every other package may import, and which imports none of them."""

import os

# Read by LangGraph once, when it is imported, so it is set before anything of ours imports it. Without it a
# tampered checkpoint row can name any function to be called (CVE-2026-28277).
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
