"""GET /providers."""

from flask import Response, jsonify

from views.blueprint import ApiRequest, api


@api.get("/providers")
def providers(incoming: ApiRequest) -> Response:
    """List the providers: which can be used, what the others lack, and whose breakers are open."""
    services = incoming.services
    rows = services.catalogue.listing()
    for row in rows:
        if states := services.relay.breakers.states(row["name"]):
            row["breakers"] = states
    return jsonify(providers=rows, default=services.catalogue.default)
