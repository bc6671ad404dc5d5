"""One training run under Lightning.

- `windows`: a text becomes windows of contiguous lanes.
- `module`: the LightningModule: one step of truncated backpropagation through time.
- `initialization`: begin with the weights of a trained model.
- `optimizer`: AdamW or SGD.
- `divergence`: notice a run that diverges.
- `restore`: check the tensors of a checkpoint, and the random number generators in it.
- `checkpoints`: write and read `last.ckpt`.
- `best_model`: write `model.safetensors` after each better validation.
- `validations`: when to validate, and on how much text.
- `run_length`: end the run on time.
- `profile`: the report of a profiler.
- `progress`: show how the run goes.
- `diagnostics`: gradients, updates and gates, by part of the model.
- `outlook`: where a run is heading: a forecast, and the n-grams that it has passed.
- `metrics`: write `metrics.csv`.
- `hardware`: where a run computes, and in which precision.
- `trainer`: build Lightning's Trainer.
- `signals`: stop a run so that it can continue.
- `attempt`: the module, the Trainer and the callbacks of one attempt at a run.
- `rollbacks`: return to a checkpoint if the run diverges.
- `run`: a run from its settings to its files.
- `machine`: on what a run was computed.
- `summary`: what a finished run prints and writes.
"""
