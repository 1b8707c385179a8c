"""`ser submit`: a tuning or a training as a job of a Ray cluster."""

import sys
from typing import Annotated

import typer

from ser_platform.cli.options import format_examples
from ser_platform.cli.output import print_json
from ser_platform.errors import UnknownChoice

EXAMPLES = format_examples(
    "ser submit tune student --corpus /speech/emodb",
    "ser submit --name nightly --no-wait train teacher --corpus /speech/emodb",
)
# Words after the verb are passed on to it.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def submit(
    context: typer.Context,
    verb: Annotated[str, typer.Argument(metavar="tune|train", help="Verb to run, followed by its options.")],
    address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Dashboard of the cluster; default: RAY_API_SERVER_ADDRESS, or RAY_ADDRESS if it is a URL, or "
            "http://127.0.0.1:8265.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the job and of its folder; submit tune --resume under the same name to continue it.",
        ),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return when the job is submitted.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and the job's output to standard error.")
    ] = False,
) -> None:
    """Run `ser tune` or `ser train` as a job of a Ray cluster, and print its output; Ctrl-C leaves the job running.\f

    This package is installed on the cluster's nodes. Search spaces given as files are sent with the job; --corpus is a
    path on the head node. The job runs in SER_HOME/jobs/NAME of that node, which keeps runs/ and mlflow.db.
    MLFLOW_TRACKING_URI is passed on where it is a server's address. With token authentication set RAY_AUTH_MODE=token
    and RAY_AUTH_TOKEN_PATH.
    """
    from ser_platform.tuning.execution.job_submission import VERBS, connect, find_address, follow, format_commands
    from ser_platform.tuning.execution.job_submission import submit as submit_job

    if verb not in VERBS:
        raise UnknownChoice("command", verb, VERBS)
    client = connect(address or find_address())
    job = submit_job(client, verb, context.args, name)
    stream = sys.stderr if as_json else sys.stdout
    to_follow, to_stop = format_commands(job)
    print(
        f"submitted {job.id}; runs and models are in SER_HOME/jobs/{job.name} on the head node", file=stream, flush=True
    )
    code = None
    if no_wait:
        print(f"follow it with: {to_follow}\nstop it with: {to_stop}", file=stream)
    else:
        try:
            code = follow(client, job, lambda text: print(text, end="", file=stream, flush=True))
        except KeyboardInterrupt:
            print(f"\nthe job continues; follow it with: {to_follow}\nstop it with: {to_stop}", file=stream)
            raise typer.Exit(1) from None
    if as_json:
        print_json({"name": job.name, "submission_id": job.id, "address": job.address, "exit_code": code})
    raise typer.Exit(code or 0)
