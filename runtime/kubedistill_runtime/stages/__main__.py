"""`python -m kubedistill_runtime.stages SPEC.json`: runs one stage to its end.

Exits with 0 when the result is there, 65 when the input is wrong, 75 when trying again may help.
"""

import argparse
import importlib
import os
import sys
import traceback
from pathlib import Path

from pydantic import ValidationError

from kubedistill_api.stage import ExitCode, StageSpec
from kubedistill_runtime.data.storage import disk_error
from kubedistill_runtime.errors import BadInput, TryAgain
from kubedistill_runtime.stages.context import StageContext

TERMINATION_LOG = os.environ.get("KUBEDISTILL_TERMINATION_LOG", "/dev/termination-log")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kubedistill_runtime.stages", description=__doc__)
    parser.add_argument("spec", type=Path, help="StageSpec as JSON")
    path = parser.parse_args(argv).spec
    try:
        spec = StageSpec.model_validate_json(path.read_bytes())
        context = StageContext(spec)
        result = context.finished()
        if result is None:
            # Only the module of this stage is loaded: curate has no use for torch.
            stage = importlib.import_module(f"kubedistill_runtime.stages.{spec.params.kind}")
            result = stage.run(context, spec.params)
        _leave(result.termination_message())
        return ExitCode.DONE
    except (BadInput, ValidationError) as error:
        return _fail(ExitCode.BAD_INPUT, str(error))
    except TryAgain as error:
        return _fail(ExitCode.TRY_AGAIN, str(error))
    except OSError as error:
        mapped = disk_error(error, path)
        if isinstance(mapped, TryAgain):
            return _fail(ExitCode.TRY_AGAIN, str(mapped))
        traceback.print_exc()
        return _fail(1, f"{type(error).__name__}: {error}")


def _fail(code: int, message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    _leave(message)
    return code


def _leave(message: str) -> None:
    """Kubernetes shows this file's content in the pod's status."""
    path = Path(TERMINATION_LOG)
    if path.exists() and os.access(path, os.W_OK):
        path.write_text(message[:4096])


if __name__ == "__main__":
    sys.exit(main())
