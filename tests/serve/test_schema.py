"""Whatever the OpenAPI schema allows, and what it does not, gets an answer that the schema has."""

from __future__ import annotations

import json
import urllib.request
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_a_fault_of_the_server(server: Any, mode: GenerationMode) -> None:
    """Of every route, requests as the schema describes them, and others."""
    schema = schemathesis.openapi.from_url(server.url + "/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error])

        with suppress(Unsatisfiable):  # nothing about GET /health can be wrong
            ask()


def test_the_schema_has_every_route(server: Any) -> None:
    with urllib.request.urlopen(server.url + "/openapi.json", timeout=10) as answer:
        paths = set(json.load(answer)["paths"])
    native = {
        "/v1/search",
        "/v1/embed",
        "/v1/predict",
        "/v1/drift",
        "/v1/info",
        "/v1/reload",
        "/v1/thumbnail",
        "/v1/map",
    }
    assert paths == native | {"/v1/embeddings", "/v1/models", "/embed", "/info", "/health", "/metrics"}
