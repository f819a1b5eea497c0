"""The fleet's exporter: what the queues hold and who works on it, also where no worker is.

It looks into Redis and imports no torch, so that it can run beside anything.
"""
