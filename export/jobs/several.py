"""One job asked for with several recipes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from ...quant.recipes.recipe import folder_name
from .encoder_job import ExportJob
from .generator_job import GeneratorJob

Job = TypeVar("Job", ExportJob, GeneratorJob)


def one_each(job: Job, recipes: Sequence[str], check: Callable[[Job], object]) -> list[Job]:
    """The job for each recipe, into a folder of its own under `job.out`; what can be refused is refused before any runs.

    Args:
        job: what is asked for.
        recipes: as the user says them; the same one twice counts once.
        check: raises where a job does not fit.
    """
    jobs = [replace(job, recipe=text, out=job.out / folder_name(text)) for text in dict.fromkeys(recipes)]
    for one in jobs:
        check(one)
    return jobs


def check_each(job: Job, recipes: Sequence[str], check: Callable[[Job], object]) -> None:
    """Check a job as it will run: once as it is, or where several recipes are asked for, with each of them."""
    if len(recipes) > 1:
        one_each(job, recipes, check)
    else:
        check(job)
