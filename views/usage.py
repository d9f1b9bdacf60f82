"""GET /usage: tokens and costs by key, model, provider, time or outcome."""

from flask import Response, request

from core.errors import InvalidRequest, PermissionDenied
from schemas.usage import load_usage, usage_csv, usage_json
from usage.reports import Question
from views.blueprint import ApiRequest, api


@api.get("/usage")
def usage(incoming: ApiRequest) -> Response:
    """Report usage: to a key its own, to an admin's key all."""
    query = load_usage(dict(request.args.lists()))
    key, ledger = incoming.key, incoming.services.ledger
    key_name = query.get("key") if key.admin else key.name
    if query.get("key", key_name) != key_name:
        raise PermissionDenied("A key sees its own usage; an admin's key sees all.", param="key")
    if ledger is None:
        raise InvalidRequest("No usage is kept here (USAGE_DAYS is 0).", code="usage_not_kept")
    rows = ledger.report(Question(query["start"], query["end"], key_name, tuple(query["group_by"])))
    if query["format"] == "csv" or request.accept_mimetypes.best == "text/csv":
        return Response(usage_csv(rows, query["group_by"]), content_type="text/csv; charset=utf-8")
    return Response(usage_json(rows), content_type="application/json")
