"""GET /providers."""

from flask import Response, jsonify

from views.blueprint import ApiRequest, api


@api.get("/providers")
def providers(incoming: ApiRequest) -> Response:
    """List the providers: which are configured, what the others lack, and which breakers are open."""
    services = incoming.services
    rows = [row for row in services.catalogue.listing() if incoming.key.allows_provider(row["name"])]
    for row in rows:
        if states := services.relay.breakers.states(row["name"]):
            row["breakers"] = states
    default = services.catalogue.default
    return jsonify(providers=rows, default=default if incoming.key.allows_provider(default) else None)
