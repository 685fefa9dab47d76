"""CLI: python -m tuning_db show | regret | export | import | doctor."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from search_spaces.command_line import Parser, run_command
from tuning_db import doctor, schema, show
from tuning_db.exchange import export, merge, read_trials
from tuning_db.regret_rows import regret_rows
from tuning_db.rows import read_rows
from tuning_db.store import TuningDB
from tuning_db.url import shown


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0; 1 when ``doctor`` found an error; 2 for bad input."""

    def command() -> int:
        arguments = _parser().read(sys.argv[1:] if argv is None else argv)
        status: int = arguments.run(arguments)
        return status

    return run_command(command)


def _parser() -> Parser:
    parser = Parser(prog="python -m tuning_db", description="The tuning DB: what won, and why.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    db = Parser(add_help=False)
    db.add_argument("--db", help="path or URL (default: $LIGHT_MOE_DB, else ./tuning.sqlite)")
    choice = Parser(add_help=False)
    choice.add_argument("--gpu", help='only this GPU model, e.g. "RTX 2080 Ti"')
    choice.add_argument("--model", help="only this model, model/layer or problem key")
    format_ = Parser(add_help=False)
    format_.add_argument("--format", help="csv, json, parquet or vllm (default: by the suffix)")

    command = commands.add_parser("show", parents=[db, choice], help="print the best configs")
    command.add_argument("--view", default="best_configs", help="best_configs or trials")
    command.add_argument("--json", action="store_true", help="every column, as JSON")
    command.set_defaults(run=_show)
    command = commands.add_parser(
        "regret", parents=[db, choice], help="what winners lose at the edges of their buckets"
    )
    command.add_argument("--json", action="store_true", help="the same as JSON")
    command.set_defaults(run=_regret)
    command = commands.add_parser("export", parents=[db, choice, format_], help="trials to a file")
    command.add_argument("file", type=Path, metavar="FILE")
    command.set_defaults(run=_export)
    command = commands.add_parser("import", parents=[db, format_], help="trials from a file")
    command.add_argument("file", type=Path, metavar="FILE")
    command.set_defaults(run=_import)
    command = commands.add_parser("doctor", parents=[db], help="check the database")
    command.add_argument("--migrate", action="store_true", help="bring the schema up to date first")
    command.add_argument("--json", action="store_true", help="the findings as JSON")
    command.set_defaults(run=_doctor)
    return parser


def _show(arguments: argparse.Namespace) -> int:
    with TuningDB.open(arguments.db, create=False, readonly=True) as db:
        rows = read_rows(db, arguments.view, gpu=arguments.gpu, model=arguments.model)
    if arguments.json:
        print(show.as_json(rows))
    elif rows.values:
        show.print_table(rows, arguments.view)
    else:
        print("nothing found yet: python -m tuner.search --op grouped_gemm finds some")
    return 0


def _regret(arguments: argparse.Namespace) -> int:
    with TuningDB.open(arguments.db, create=False, readonly=True) as db:
        rows = regret_rows(db, gpu=arguments.gpu, model=arguments.model)
    if arguments.json:
        print(show.as_json(rows))
    elif rows.values:
        show.print_table(rows, "regret")
    else:
        print(
            "nothing measured yet: python -m tuner.search --split 3 looks at the edges of buckets"
        )
    return 0


def _export(arguments: argparse.Namespace) -> int:
    with TuningDB.open(arguments.db, create=False, readonly=True) as db:
        count = export(
            db,
            arguments.file,
            format_name=arguments.format,
            gpu=arguments.gpu,
            model=arguments.model,
        )
    print(f"{count} rows written to {arguments.file}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    # Read first: a file that is no export leaves no new DB behind.
    rows = read_trials(arguments.file, arguments.format)
    with TuningDB.open(arguments.db) as db:
        merged = merge(db, rows, arguments.file)
    print(
        f"{merged.added} trials added, {merged.known} were known, {merged.winners} winners changed"
    )
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    with TuningDB.open(arguments.db, create=False, readonly=not arguments.migrate) as db:
        findings, name = doctor.examine(db), shown(db.url)
    errors = sum(finding.severity is doctor.Severity.ERROR for finding in findings)
    if arguments.json:
        listed = [
            {"check": f.check, "severity": f.severity.value, "message": f.message} for f in findings
        ]
        print(json.dumps({"db": name, "schema": schema.HEAD, "ok": not errors, "findings": listed}))
    else:
        for finding in findings:
            print(f"{finding.severity.value}: {finding.check}: {finding.message}")
        print(f"{name}: schema {schema.HEAD}, {errors} errors, {len(findings) - errors} warnings")
    return 1 if errors else 0
