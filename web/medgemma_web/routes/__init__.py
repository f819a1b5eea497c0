"""The operations of the API, a file for what belongs together."""
