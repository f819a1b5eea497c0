"""A problem for a person who opened an address in a browser: a page, in place of JSON."""

from __future__ import annotations

import json
import re
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

JSON = ("application/problem+json", "application/json")
KEPT = ("WWW-Authenticate", "Retry-After")
"""Headers of a problem that are those of its page too."""
MAY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>No report</title>
<style>
body {{ margin: 0; font: 1rem/1.6 system-ui, "Liberation Sans", Arial, sans-serif; }}
main {{ max-width: 36rem; margin: 0 auto; padding: 3rem 1.25rem; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.375rem; line-height: 1.3; }}
</style>
</head>
<body>
<main>
<h1>There is no report to show</h1>
<p dir="auto">{detail}</p>
<p><a href="{address}">Look at it on this service’s page</a>, which asks for your key.</p>
<p><code>{code}</code></p>
</main>
</body>
</html>
"""


def wants_page(accept: str) -> bool:
    """Whether whoever sends this header wants HTML rather than JSON (RFC 9110, 12.5.1), as browsers
    do. A program that names neither, or sends ``*/*``, does not."""
    wanted: dict[str, float] = {}
    for said in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in said.split(";"))
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        wanted[kind] = float(weight) if re.fullmatch(r"[01](\.[0-9]{0,3})?", weight) else 0.0
    return wanted.get("text/html", 0.0) > max(wanted.get(kind, 0.0) for kind in JSON)


def as_page(request: Request, problem: Response) -> Response:
    """problem: of a job's report, as JSON."""
    said = json.loads(bytes(problem.body))
    job = str(request.path_params.get("job_id", ""))
    known = re.fullmatch("[0-9a-f]{32}", job) is not None
    said["address"] = "../../../" + (f"#job={job}" if known else "")  # also below a proxy's path
    text = PAGE.format_map({name: escape(str(value)) for name, value in said.items()})
    headers = {name: problem.headers[name] for name in KEPT if name in problem.headers}
    headers["Content-Security-Policy"] = MAY
    return HTMLResponse(text, problem.status_code, headers)
