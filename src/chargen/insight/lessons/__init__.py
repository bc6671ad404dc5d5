"""What articles on recurrent networks claim, as experiments of a few seconds that need no trained model.

- `recurrence`: one weight that acts at every time: its gradient vanishes or explodes.
- `unrolling`: four updates of one tick, against one update of four ticks.
- `clipping`: the three steps of clipping, by norm and by value.
- `copying`: how long each cell can learn to remember a symbol.
"""
