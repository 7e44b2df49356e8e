"""The review desk: server-rendered pages that call what the API calls. They work without JavaScript too."""
