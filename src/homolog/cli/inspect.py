"""``homolog inspect M``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from homolog.cli.languages import Lang

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from homolog.roles.inspect import Inspection
    from homolog.sketch.opened import SketchFile

__all__ = ["inspect"]


def inspect(
    m: Annotated[
        str,
        typer.Argument(
            metavar="M", help="The model: a folder, a weight file, a sketch or an address.", show_default=False
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the summary.")] = False,
    values: Annotated[
        bool,
        typer.Option("--values", help="Look at every number, not at some rows of each tensor, and compare whole FFNs."),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Fetch no more than SIZE over the network, such as 200MB.", show_default=False
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: read what earlier runs fetched.")] = False,
    lang: Lang = None,
) -> int:
    """Say what a checkpoint holds.

    Its format and architecture, which tensor plays which role, what is missing, parameters, dtypes, and warnings.
    """
    from homolog.checkpoint.budget import parse_bytes
    from homolog.checkpoint.session import Session
    from homolog.cli import output
    from homolog.cli.languages import announce, spoken
    from homolog.cli.progress import Progress
    from homolog.examination.alone import inspect as inspect_checkpoint
    from homolog.sketch.opened import SketchFile, open_model

    session = Session(budget=None if budget is None else parse_bytes(budget), offline=offline)
    with spoken(lang):
        with open_model(m, session) as checkpoint, Progress() as progress:
            if isinstance(checkpoint, SketchFile):
                return _inspect_sketch(checkpoint, json=json)
            progress.follow("reading", lambda: checkpoint.meter.bytes, checkpoint.nbytes)
            inspection = inspect_checkpoint(checkpoint, values=values, announce=announce)
        if json:
            output.print_json(inspection.to_json())
        else:
            _print_summary(inspection, output.console())
    return 0


def _inspect_sketch(sketch: SketchFile, *, json: bool) -> int:
    from homolog.cli import output
    from homolog.cli.sketch import describe, print_sketch

    if json:
        output.print_json(describe(sketch.stored, sketch.path))
    else:
        print_sketch(sketch.stored, sketch.path, output.console())
    return 0


def _print_summary(inspection: Inspection, console: Console) -> None:
    from rich.table import Table

    from homolog.cli.output import printable
    from homolog.report.alone import say_alone
    from homolog.report.language import t, translate

    anatomy, dims = inspection.anatomy, inspection.anatomy.dims
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    count = len(inspection.files)
    sizes = t(
        "{layers} layers, width {width}, {ffn} FFN units, {vocab} tokens",
        layers=dims.layers,
        width=dims.width,
        ffn=dims.ffn,
        vocab=dims.vocab,
    )
    if dims.heads:
        sizes += t(", {n} heads of {size}", n=dims.heads, size=dims.head_dim)
    if dims.experts:
        sizes += t(", {n} experts", n=dims.experts)
    known = anatomy.architecture
    if anatomy.reason:
        known = t("{name}: {value}", name=known, value=translate(anatomy.reason))
    form = inspection.format
    form = t("{format}, {n} files", format=form, n=count) if count > 1 else t("{format}, 1 file", format=form)
    for name, value in (
        (t("model"), inspection.id),
        (t("format"), form),
        (t("architecture"), known),
        (t("parameters"), t("{n} in {tensors} tensors", n=f"{inspection.parameters:,}", tensors=inspection.tensors)),
        (t("dtypes"), t(", ").join(f"{dtype} {count:,}" for dtype, count in inspection.dtypes.items())),
        (t("sizes"), sizes),
        *(((t("tokenizer"), translate(inspection.tokenizer)),) if inspection.tokenizer else ()),
        (
            t("read"),
            t("{part} of {whole} bytes", part=f"{inspection.read['bytes']:,}", whole=f"{inspection.read['of']:,}"),
        ),
        *((t("by itself"), said) for said in say_alone(inspection.alone)),
        *((t("note"), translate(note)) for note in inspection.notes),
    ):
        facts.add_row(name, printable(value))
    for name, value in (
        *((t("missing"), role) for role in anatomy.missing),
        *((t("warning"), warning) for warning in inspection.warnings),
    ):
        facts.add_row(name, printable(translate(value)), style="yellow")
    console.print(facts, markup=False)
    if inspection.roles:
        console.print(_tabulate_roles(inspection))
    if anatomy.unused:
        console.print(_tabulate_unused(inspection))


def _tabulate_roles(inspection: Inspection) -> Table:
    """One row for each kind of role, however many layers and experts have it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from homolog.cli.output import printable
    from homolog.report.language import t

    heads = (t("role"), t("tensors"), t("shape"), t("stored as"), t("for example"))
    table = Table(*heads, box=box.SIMPLE_HEAD)
    kinds: dict[str, list[int]] = {}
    for index, role in enumerate(inspection.anatomy.views):
        kinds.setdefault(
            f"{'shared ' * role.shared}{role.kind}{'.' + role.detail if role.detail else ''} {role.part}", []
        ).append(index)
    for kind, indices in kinds.items():
        found = [inspection.roles[index] for index in indices]
        shapes = dict.fromkeys(" × ".join(map(str, role.shape)) for role in found)
        shape = next(iter(shapes)) if len(shapes) == 1 else t("{n} shapes", n=len(shapes))
        dtypes = ", ".join(dict.fromkeys(role.dtype for role in found))
        table.add_row(*(Text(printable(cell)) for cell in (kind, str(len(found)), shape, dtypes, found[0].tensor)))
    return table


def _tabulate_unused(inspection: Inspection) -> Table:
    """One row for each reason, however many tensors share it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from homolog.cli.output import printable
    from homolog.report.language import t, translate

    table = Table(t("without a role"), t("tensors"), t("for example"), box=box.SIMPLE_HEAD)
    reasons: dict[str, list[str]] = {}
    for tensor, reason in inspection.anatomy.unused.items():
        reasons.setdefault(reason, []).append(tensor)
    for reason, tensors in reasons.items():
        table.add_row(*(Text(printable(cell)) for cell in (translate(reason), str(len(tensors)), tensors[0])))
    return table
