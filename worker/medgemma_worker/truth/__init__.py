"""Is the map true? Insertion and deletion of pixels, sanity checks, and lesions that are known.

The protocol stands in docs/truth.md; ``evaluate.evaluate`` runs it, ``job.areas`` is its part for
one job.
"""
