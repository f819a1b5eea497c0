"""Small wrappers round "explain this request", each of which does one thing to a job's run."""
