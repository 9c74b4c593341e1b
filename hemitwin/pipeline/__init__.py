"""What a user asks for: one module a stage, files in, files out.

Nothing is re-exported: `from hemitwin.pipeline.preparation.prepare import prepare` loads one stage and what it
needs, so that the command line answers `--help` without waiting for torch.
"""

__all__: list[str] = []
