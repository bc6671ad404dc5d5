"""Character n-gram models, in numpy.

- `kneser_ney`: counts of n-grams, and interpolated modified Kneser-Ney probabilities.
"""
