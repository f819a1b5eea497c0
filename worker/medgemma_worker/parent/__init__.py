"""What a worker's parent does beside its child, which has the model: it imports no torch."""
