"""The network in PyTorch: recurrent cells, the loop over time, matrix products, the loss and the model.

- `cells`: one tick of a recurrent cell, as an equation and its derivative.
- `unroll`: the loop that runs a cell along a window of text, forward and backward.
- `trajectory`: the states of every layer while a model reads.
- `precision`: products in bf16, and the rounding of their factors.
- `linear`: products with a matrix, x W^T + b.
- `loss`: the output layer and its cross-entropy over a window.
- `model`: `StackedRNN` and `CharRNN`.
- `speed`: a short measurement of training speed.
- `threads`: the threads that compute on the CPU.
"""
