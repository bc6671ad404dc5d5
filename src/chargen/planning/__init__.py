"""How long a run is and how large a model may be: arithmetic, without torch.

- `length`: the length of a run in seconds, updates and passes over the text.
- `schedule`: the learning rate of each update, and how many updates fit into a given time.
- `advice`: how many passes are good for a text and a model.
- `clipping`: which clipping threshold fits a run.
- `forecast`: the score to expect at the end of a run.
- `size`: the memory that training needs, and what the machine has.
"""
