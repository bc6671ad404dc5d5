"""Text from a trained model, with numpy and the compiled kernels alone.

- `arguments`: check what a caller gives.
- `params`: how the next character is chosen.
- `session`: one text that is being written, and the interface of the networks.
- `weights`: the arrays of a model file in the form that the networks use.
- `activations`: exp, sigmoid and tanh with the same bits on every processor.
- `numpy_network`: the network in numpy; the definition of the compiled one.
- `native_network`: the network in compiled code, for many texts at once.
- `generator`: text in, text out.
"""
