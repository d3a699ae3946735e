"""`kubedistill benchmarks`: the benchmarks that have a name, what each stands for, and what others measured on it."""

import sys
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.text import Text

from kubedistill_api.benchmarks import PRESETS, Preset
from kubedistill_runtime.cli.plan_view import PIPE_WIDTH, heading_table
from kubedistill_runtime.data.rows import is_file
from kubedistill_runtime.errors import BadInput
from kubedistill_runtime.evaluate.precision import Spread, half_width


def benchmarks_command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show one of them in full.")] = None,
) -> None:
    """List the benchmarks that a manifest can name, or show one.

    [bold]evaluation.benchmarks: [{preset: aime24}][/bold] stands for the fields that are shown, and any field given
    beside it wins. ± is the half-width of the interval that a usual score has with the usual number of samples; see
    [bold]plan --half-width[/bold] for your own.

    [bold]Examples[/bold]

      kubedistill benchmarks
      kubedistill benchmarks gpqa-diamond

    [bold]Exit codes[/bold]: 0 shown; 65 there is no such benchmark.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    if name is None:
        _list(console)
    elif name in PRESETS:
        _show(console, name, PRESETS[name])
    else:
        raise BadInput(f"{name} is not a known benchmark; known: {', '.join(PRESETS)}")


def _list(console: Console) -> None:
    table = heading_table("preset", ">questions", ">samples", ">usual ±", "domain", "source", "what")
    for name, preset in PRESETS.items():
        width = half_width(preset.questions, preset.samples, 0.95, spread=Spread(mean=preset.usual))
        table.add_row(
            name,
            str(preset.questions),
            str(preset.samples),
            f"{preset.usual:.0%} ± {100 * width:.1f}",
            preset.entry.get("domain", "math"),
            Text(_source(preset), style="dim"),
            preset.about + (" (gated: needs tokenSecretRef)" if preset.gated else ""),
        )
    console.print(table)


def _show(console: Console, name: str, preset: Preset) -> None:
    console.print(f"[bold]{name}[/bold]: {preset.about}; {preset.questions} questions")
    if preset.gated:
        console.print("Gated: accept its terms on the hub, and give tokenSecretRef beside the preset.", style="yellow")
    console.print(f"\n- {{preset: {name}}} stands for\n", style="dim")
    entry: dict[str, Any] = {"name": name, **preset.entry}
    console.print(Text(yaml.safe_dump([entry], sort_keys=False, allow_unicode=True, width=PIPE_WIDTH)))
    table = heading_table("model", ">score", "metric", "measured by", "source")
    for found in preset.published:
        table.add_row(found.model, f"{found.score:g}", found.metric, found.by, Text(found.source, style="dim"))
    console.print(table)
    console.print(
        "Copied. Prompts, sampling and checkers differ: no comparison with what is measured here.", style="dim"
    )


def _source(preset: Preset) -> str:
    uri = preset.entry["uri"]
    split = None if is_file(uri) else preset.entry["split"]
    parts = (uri.removeprefix("hf://").removeprefix("datasets/"), preset.entry.get("subset"), split)
    return " ".join(filter(None, parts))
