"""One training run under Lightning."""
