"""One worker process group per device, and what is done once for all of them."""
