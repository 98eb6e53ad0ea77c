"""`forecast layers`: the kinds of layers, their options and what they mean."""

from __future__ import annotations

from typing import Annotated

import typer


def layers(
    kind: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="A kind of layer; none: list all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print all of it as a page of the reference.")
    ] = False,
) -> None:
    """List the kinds of layers for [[network.layers]], or the options of one of them."""
    from dataclasses import asdict

    from forecast_cli.output import print_json, print_table
    from forecastd.network.overview import about, kinds, options_table, reference_page

    if markdown:
        print(reference_page(), end="")
        return
    if kind is not None:
        rows = options_table(kind)
        if as_json:
            print_json({"type": kind, "about": about(kind), "options": [asdict(x) for x in rows]})
            return
        print(f"{kind}: {about(kind)}\n")
        if not rows:
            print("It has no options.")
            return
        table = [[row.name, row.values, row.default, row.meaning] for row in rows]
        print_table(["option", "values", "default", "meaning"], table)
        return
    if as_json:
        tables = {name: [asdict(row) for row in options_table(name)] for name in kinds()}
        print_json([{"type": n, "about": about(n), "options": tables[n]} for n in kinds()])
        return
    print_table(["type", "what it does"], [[name, about(name)] for name in kinds()])
