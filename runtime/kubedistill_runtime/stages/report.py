"""The report stage: the page, and the model card."""

from kubedistill_api.stage import ReportParams, StageResult
from kubedistill_runtime.data.storage import write_atomically
from kubedistill_runtime.report import card, page
from kubedistill_runtime.report.gather import gather
from kubedistill_runtime.stages.context import StageContext

REPORT_FILE = "report.html"
CARD_FILE = "README.md"


def run(context: StageContext, params: ReportParams) -> StageResult:
    """Leaves report.html and README.md. Raises BadInput when a stage's file is not there or was changed."""
    report = gather(context, params.manifest)
    report_path, card_path = context.folder / REPORT_FILE, context.folder / CARD_FILE
    write_atomically(report_path, page.render(report).encode())
    write_atomically(card_path, card.render(report).encode())
    return context.finish(
        {"report": report_path, "card": card_path},
        metrics={
            "traces_shown": report.traces.shown if report.traces else 0,
            "answers_shown": report.answers.shown if report.answers else 0,
            "stages": len(report.stages),
        },
    )
