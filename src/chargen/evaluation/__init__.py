"""How well a model predicts a text, and how much of a generated text is copied.

- `score`: nats per character by protocols A (windowed) and B (streaming).
- `dynamic`: nats per character by protocol C (dynamic evaluation).
- `baselines`: nats per character of models without a network.
- `spelling`: how much of a generated text is spelled as in the training text.
- `novelty`: runs of characters that a generated text shares with the training text.
"""
