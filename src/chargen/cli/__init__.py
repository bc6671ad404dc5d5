"""The command line: one module per command.

- `app`: the commands, and how errors are printed.
- `packages`: a line for a package that is missing.
- `console`: standard output, files of output, and lines that cannot steer a terminal.
- `streams`: encodings of the standard streams, and what happens if one is closed or full.
- `synonyms`: what users of other programs type, and what to type instead.
- `unknown_words`: refuses unknown settings of `train`, and says what to write instead.
- `unknown_options`: commands that refuse unknown options, and say what to write instead.
- `overrides`: what is typed after `chargen train` becomes what Hydra reads.
- `conf_folder`: the files in conf/.
- `initial_model`: the model whose weights a new run begins with.
- `pictures`: writes figures.
- `given_text`: a text that is given, as the ids of a model.
- `stored_corpus`: the corpus that the files of a run name.
- `inspect`, `explain`: folders, the commands of `chargen inspect` and `chargen explain`.
- `train`, `resume`, `train_help`, `sample`, `evaluate`, `plot`, `compare`, `report`, `runs`, `doctor`, `info`: the
  commands.
"""
