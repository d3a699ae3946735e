"""What the pods of a stage beside index 0 do."""

import os
from pathlib import Path

from kubedistill_api.stage import BaselineParams, CurateParams, EvaluateParams, SampleParams, TrainParams
from kubedistill_runtime.data.models import model_path
from kubedistill_runtime.stages.context import StageContext
from kubedistill_runtime.stages.pod import Pod


def assist(context: StageContext, pod: Pod) -> None:
    """Returns when index 0 needs no help any more. Raises BadInput or TryAgain, as stages do."""
    params = context.spec.params
    if context.finished():
        print("the stage's result is there: nothing to help with", flush=True)
    elif isinstance(params, TrainParams):
        from kubedistill_runtime.stages import train

        train.join(context, params, pod)
    elif uses_ray(context):
        from kubedistill_runtime.stages import ray_member

        if isinstance(params, SampleParams | BaselineParams) and params.model:
            model_path(params.model)  # a model of the hub goes into each pod's cache
        ray_member.serve(context, pod, token_file(context))
    else:
        print(f"{context.spec.stage} runs in index 0 alone: nothing to help with", flush=True)


def uses_ray(context: StageContext) -> bool:
    """Whether the stage runs on a Ray cluster over its pods; the same answer in each of them."""
    params = context.spec.params
    if "RAY_ADDRESS" in os.environ:
        return False
    if isinstance(params, CurateParams):
        from kubedistill_runtime.stages import curate

        return curate.pays_for_ray(context, params.curation)
    return isinstance(params, BaselineParams | EvaluateParams) or (
        isinstance(params, SampleParams) and params.model is not None
    )


def token_file(context: StageContext) -> Path:
    """Holds the token of the Ray cluster of this attempt."""
    return context.folder / f".ray-token-{context.spec.attempt}"
