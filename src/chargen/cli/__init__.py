"""The command line: one module per command.

- `app`: the commands, and how errors are printed.
- `console`: standard output, files of output, and lines that cannot steer a terminal.
- `overrides`: what is typed after `chargen train` becomes what Hydra reads.
- `conf_folder`: the files in conf/.
- `stored_corpus`: the corpus that the files of a run name.
- `train`, `resume`, `train_help`, `sample`, `evaluate`, `plot`, `doctor`, `info`: the commands.
"""
