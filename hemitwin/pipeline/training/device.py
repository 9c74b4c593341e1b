"""The one device of a run: its network lies there, and what the network sees goes there."""

import torch

__all__ = ["chosen_device"]


def chosen_device(wanted: torch.device | None = None) -> torch.device:
    """Choose where networks are trained, score and are explained.

    On a GPU, float32 then is float32 in convolutions too: in TF32, torch's default, the ledgers of
    relevance could not close, and scores would differ from a CPU's by more than rounding.

    Parameters
    ----------
    wanted : device, optional
        By default a CUDA device where there is one (``CUDA_VISIBLE_DEVICES=`` hides it), else the
        CPU.

    Examples
    --------
    >>> chosen_device(torch.device("cpu"))
    device(type='cpu')
    """
    device = wanted or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return device
