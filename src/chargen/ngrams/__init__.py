"""Character n-gram models, in numpy.

- `kneser_ney`: counts of n-grams, and interpolated modified Kneser-Ney probabilities.
- `ladder`: the scores of every order, in a process of its own.
"""
