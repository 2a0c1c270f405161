"""Whatever fits the description of the REST face, or not quite: the answer fits it, too."""

import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, settings

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

from potnet.serve import Limits, make_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


PATHS = [
    ("GET", "/health"),
    ("GET", "/models"),
    ("GET", "/examples"),
    ("GET", "/distributions"),
    ("GET", "/metrics"),
    ("POST", "/check"),
    ("POST", "/predict"),
    ("POST", "/explain"),
    ("POST", "/sums"),
    ("POST", "/nearest"),
    ("POST", "/stability"),
    ("POST", "/landscape"),
]
SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def interface():
    limits = Limits(structures=20, atoms=40, seconds=60)
    server = make_app(hosts=frozenset({"testserver"}), limits=limits)

    async def app(scope, receive, send) -> None:
        # Each request would start the server anew, and end it for good.
        if scope["type"] == "http":
            await server(scope, receive, send)
            return
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})

    return schemathesis.openapi.from_asgi("/openapi.json", app)


def check(interface, method: str, path: str, n: int) -> None:
    """Send ``n`` requests that fit the description, and look at the answers."""
    n = 1 if method == "GET" else n

    @settings(SETTINGS, max_examples=n)
    @given(case=interface[path][method].as_strategy())
    def send(case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=120)

    send()


def test_all_paths_are_tried(interface) -> None:
    described = {
        (m.upper(), p) for p, methods in interface.raw_schema["paths"].items() for m in methods
    }
    assert described == set(PATHS)


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_every_answer_is_as_it_is_described(interface, method, path) -> None:
    check(interface, method, path, 10)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_every_answer_is_as_it_is_described_for_long(interface, method, path) -> None:
    check(interface, method, path, 300)
