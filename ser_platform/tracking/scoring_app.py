"""MLflow's scoring server of a registered model; each answer to bad input is one sentence.

`make serve` starts it with `uvicorn --factory`. `mlflow models serve` serves the same model, but answers a body that is
no table of rows with many lines.
"""

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import load_model, scoring_server

from ser_platform.errors import MAX_LINE_CHARS, SerError, first_line

MODEL_VARIABLE, DEFAULT_MODEL = "SER_SERVED_MODEL", "models:/ser-student@champion"
EXAMPLE = '{"dataframe_records": [{"path": "FILE.wav"}]}'

_logger = logging.getLogger("uvicorn.error")


def make_app() -> FastAPI:
    """Return the server of the model in `SER_SERVED_MODEL`, by default the champion student.

    Raises:
        SystemExit: it cannot be loaded; has the reason in one line.
    """
    uri = os.environ.get(MODEL_VARIABLE, DEFAULT_MODEL)
    try:
        model = load_model(uri)
    except (MlflowException, SerError) as error:
        sys.exit(f"ser: {uri} cannot be served: {first_line(error)}; see: ser models list, and make promote")
    app: FastAPI = scoring_server.init(model)
    app.middleware("http")(shorten_refusals)
    return app


async def shorten_refusals(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer bad input with a code of 4xx and `{error_code, message}`; a traceback is logged, and not sent."""
    media = request.headers.get("content-type", "")
    if request.method == "POST":
        if not media.startswith(scoring_server.CONTENT_TYPE_JSON):
            return _refuse(415, f"the Content-Type is {media or 'missing'}; send application/json, like {EXAMPLE}")
        try:
            json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            return _refuse(400, f"the body is not JSON ({type(error).__name__}); send JSON like {EXAMPLE}")
    response = await call_next(request)
    if response.status_code < 400:
        return response
    body = b"".join([chunk async for chunk in response.body_iterator])  # type: ignore[attr-defined]
    try:
        content = json.loads(body)
        message = content["message"]
    except (ValueError, KeyError, TypeError):
        content, message = {}, body.decode(errors="replace")
    if "stack_trace" in content:
        _logger.error(content["stack_trace"])
    sentence = message.replace(scoring_server.SCORING_PROTOCOL_CHANGE_INFO, "").strip().partition("\n")[0]
    return _refuse(response.status_code, sentence.strip())


def _refuse(code: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error_code": HTTPStatus(code).name, "message": sentence[:MAX_LINE_CHARS]}, code)
