"""People, families and lesions whose truth is known."""

__all__: list[str] = []
