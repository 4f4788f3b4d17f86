"""Results for good, as `expose enhance` makes them; runs in a worker."""

from __future__ import annotations

import os
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import Any

from exposurediffusion.models.device import find_device
from exposurediffusion.photographs.enhancer import Enhancer, failure
from exposurediffusion.photographs.failures import ERRORS
from exposurediffusion.photographs.photograph import Job
from exposurediffusion.web.asked import Asked
from exposurediffusion.weights.file import TrainedDenoiser, load

_model: TrainedDenoiser
_share: Synchronized[float]
_cancelled: Event


class Cancelled(Exception):
    """Someone does not want the result any more."""


def begin(weights: str, device: str, share: Synchronized[float], cancelled: Event) -> None:
    """Get ready; what is looked at on the page goes first."""
    global _model, _share, _cancelled
    if hasattr(os, "nice"):
        os.nice(5)
    _model, _share, _cancelled = load(weights).to(find_device(device)), share, cancelled


def tick(share: float) -> None:
    """A share of the work is done."""
    _share.value += share
    if _cancelled.is_set():
        raise Cancelled


def make(job: Job, asked: Asked, overwrite: bool) -> dict[str, Any]:
    """Enhance one photograph; the facts that the command reports, `kept` where the result was there already.

    Raises:
        ValueError: what went wrong, with the file.
        Cancelled: it is not wanted any more; nothing is written.
    """
    enhancer = Enhancer(_model, asked.options(), asked.results(overwrite))

    try:
        enhancer.check_free(job, {})
        if enhancer.keeps(job):
            return {"kept": True, "output": str(job.target)}
        return enhancer(job, tick).facts()
    except Cancelled:
        raise
    except ERRORS as error:
        raise ValueError(failure(error, job)) from error
