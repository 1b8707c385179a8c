"""`ser submit`: a tuning or a training as a job of a Ray cluster."""

import sys
from typing import Annotated

import typer

from ser_platform.cli.output import print_json
from ser_platform.errors import UnknownChoice

# What stands behind the verb is the verb's own.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def submit(
    context: typer.Context,
    verb: Annotated[str, typer.Argument(metavar="tune|train", help="What to run; its options follow.")],
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The cluster's dashboard; default RAY_API_SERVER_ADDRESS, RAY_ADDRESS where it is a URL, else "
            "http://127.0.0.1:8265.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the job's folder; a job of the same name can --resume it.")
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return as soon as the job is submitted.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what became of the job as JSON, its output to standard error.")
    ] = False,
) -> None:
    """Run `ser tune` or `ser train` as a job of a Ray cluster, and follow what it prints.

    The cluster's nodes have this platform installed. Search spaces that are named travel along; the corpus is named by
    its path on the head node. The job works in SER_HOME/jobs/NAME of that node, where runs/ and mlflow.db stay;
    MLFLOW_TRACKING_URI travels along where it is a server's address. With token authentication give this process the
    cluster's token (RAY_AUTH_MODE=token, RAY_AUTH_TOKEN_PATH). Ctrl-C leaves the job running.

    Examples: ser submit tune student --corpus /speech/emodb; ser submit --name nightly tune mine.yaml --corpus
    /speech/emodb; ser submit --name nightly tune --resume; ser submit --no-wait train teacher --corpus /speech/emodb
    """
    from ser_platform.tuning.execution.job_submission import VERBS, connect, find_address, follow, format_commands
    from ser_platform.tuning.execution.job_submission import submit as send

    if verb not in VERBS:
        raise UnknownChoice("command", verb, VERBS)
    client = connect(address or find_address())
    job = send(client, verb, context.args, name)
    stream = sys.stderr if as_json else sys.stdout
    to_follow, to_stop = format_commands(job)
    print(
        f"submitted {job.id}; its runs and models: SER_HOME/jobs/{job.name} on the head node", file=stream, flush=True
    )
    code = None
    if no_wait:
        print(f"follow it with: {to_follow}\nstop it with: {to_stop}", file=stream)
    else:
        try:
            code = follow(client, job, lambda text: print(text, end="", file=stream, flush=True))
        except KeyboardInterrupt:
            print(f"\nthe job goes on; follow it with: {to_follow}\nstop it with: {to_stop}", file=stream)
            raise typer.Exit(1) from None
    if as_json:
        print_json({"name": job.name, "submission_id": job.id, "address": job.address, "exit_code": code})
    raise typer.Exit(code or 0)
