"""A seeded run of everything going wrong at once, and an audit of what is left of it.

``python -m tests.faults.chaos --help``, or ``make chaos``.
"""
