"""Reports and figures about texts and runs.

- `text_profile`: what a text contains, before training on it.
- `text_features`: what a reader can tell at each character of a text.
- `gradient_flow`: how gradients shrink or grow on their way back through time.
- `truncation`: the bias of the gradient of short windows.
- `memory`: how far back a model uses its past.
- `carry`: what memory is worth.
- `lessons`: a folder, what articles claim, as experiments.
- `neurons`: the units that follow something readable.
- `surprise`: how much each character of a text surprises a model.
- `typos`: small changes that make a text much more probable.
- `selection`: places of a text that are not too near to each other.
- `similar`: the places of a text that a model reads alike, and what a prediction depends on.
- `drawing`: how figures look, and how they become files.
- `figures`: learning curves.
- `charts`: figures of what is inside a model.
- `coloured_text`: a text whose characters are coloured by a value.
- `unit_views`: units that follow something readable, as coloured text.
- `surprise_page`: the page of a text coloured by surprise.
- `report`: the page of a run.
- `page`: pages of HTML that stand alone.
"""
