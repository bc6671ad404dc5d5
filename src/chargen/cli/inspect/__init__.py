"""`chargen inspect`: look inside a trained model; one module per command.

- `group`: the commands.
- `subject`: what all of them open: a run, its network and its text.
- `gradients`: how gradients shrink or grow on their way back through time.
- `carry`: what the carried state is worth.
- `memory`: how far back a model uses its past.
- `neurons`: the units that follow something readable.
- `text`: a text coloured by surprise.
- `like`: the places of the training text that a model reads like a phrase.
"""
