# SPDX-License-Identifier: Apache-2.0
"""
The ``http-authz`` listener: HTTP authorization for proxies that do not speak gRPC to us.

=============== ============================================ ==================================================
endpoint        for                                          what the proxy takes from the answer
=============== ============================================ ==================================================
/envoy/PATH     Envoy's ``http_service``                     200 allows; 5xx is an error of ours; else a denial
/nginx          nginx's ``auth_request``                     2xx allows, 401 and 403 deny; else an error
/nginx/answer   nginx's ``error_page``, after a denial       all of it, for the client
/forward        forward auth of Traefik and Caddy            2xx allows; else all of it, for the client
=============== ============================================ ==================================================

Each makes a ``CheckRequest`` of what the proxy says of the original request, and asks what the data listener asks for
``Check``. Nothing is believed that the proxy does not state itself, each once: a header that is missing or there twice
is one that its configuration forgot to set, and then a client could.
"""
