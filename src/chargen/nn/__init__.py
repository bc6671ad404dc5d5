"""The network: cells, the loop over time, products, loss and the model, in torch."""
