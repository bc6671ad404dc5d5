"""The files of a run: written atomically and read safely, each format with one owner.

- `atomic`: files that are complete or absent.
- `locks`: one writing process per folder.
- `checksum`: SHA-256 of files, and the checksum inside a checkpoint.
- `plain_data`: read tensors and plain data from a file that anyone may have written.
- `model_file`: `model.safetensors`.
- `checkpoint`: `last.ckpt`.
- `run_folder`: the files of a run, and how to find a run.
- `run_list`: what the files of a run say about it.
- `run_log`: the measurements of a run, as `metrics.csv` holds them.
"""
