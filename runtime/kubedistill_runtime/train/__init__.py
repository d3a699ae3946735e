"""The student trainer: supervised fine-tuning on verified traces with FSDP2, packed sequences and exact resume.

`python -m kubedistill_runtime.train JOB.json` runs one training; `job.TrainJob` is its input. Importing this package
costs nothing: torch and transformers are loaded by the modules that need them.
"""
