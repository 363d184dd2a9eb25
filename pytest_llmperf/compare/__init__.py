"""Compares stored sessions: which ones, how they are paired, and how they are judged.

``run.compare(request)`` takes the user's request and returns a ``ComparisonResult``. On the way
``sources`` finds the stored sessions of each side, ``pairing`` chooses the sessions to compare,
and ``judge`` gives each test its verdicts. ``report/`` renders the result.
"""
