"""The contract that client and worker share: requests, results, layout, queue, settings, errors.

Nothing here imports torch, and nothing here does work at import.
"""
