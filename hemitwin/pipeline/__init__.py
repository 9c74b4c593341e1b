"""What a user asks for, files in and files out: a room for a part of the way, a file for a stage.

The rooms re-export nothing: `from hemitwin.pipeline.preparation.prepare import prepare` loads one
stage and what it needs, so that the command line answers `--help` without waiting for torch.
"""

__all__: list[str] = []
