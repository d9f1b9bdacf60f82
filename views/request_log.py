"""GET /requests/{x-request-id}: the timeline of one of the last requests."""

from flask import Response, jsonify

from core.errors import InvalidRequest
from views.blueprint import ApiRequest, api

SHOWN = 128


class RequestNotFound(InvalidRequest):
    """No such request is kept, or it is another key's."""

    status = 404
    code = "request_not_found"


@api.get("/requests/<path:request_id>")
def show_request(incoming: ApiRequest, request_id: str) -> Response:
    """Show a request to the key that sent it, and to an admin's key."""
    ledger, key = incoming.services.ledger, incoming.key
    found = ledger.recent.find(request_id, None if key.admin else key.name) if ledger is not None else None
    if found is None:
        raise RequestNotFound(f"There is no request {request_id[:SHOWN]!r} among the last ones of this key.")
    return jsonify(found)
