"""The gateway: an HTTP API over the client, and one page that uses it."""
