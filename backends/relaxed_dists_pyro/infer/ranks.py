"""The processes that train together by torch.distributed, each of which has a rank."""

from torch import distributed


def _started() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """The rank of this process; 0 without torch.distributed."""
    return distributed.get_rank() if _started() else 0


def several() -> bool:
    """Whether more than one process trains."""
    return _started() and distributed.get_world_size() > 1
