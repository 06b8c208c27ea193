# SPDX-License-Identifier: Apache-2.0
# What the routes and policies of the bench say, in OPA's language.
package envoy.authz

import rego.v1

default allow := false

clients := {"3ab78548a9e1aca92c7ce743c1c76b512d19275882c9657bcd56b64369ac81df": "batch"}

allowed := {"batch": {"shop:GetOrder"}}

action := "shop:GetOrder" if {
	input.attributes.request.http.method == "GET"
	count(input.parsed_path) == 2
	input.parsed_path[0] == "orders"
}

action := "shop:ListOrders" if {
	input.attributes.request.http.method == "GET"
	input.parsed_path == ["orders"]
}

allow if {
	client := clients[crypto.sha256(input.attributes.request.http.headers["x-api-key"])]
	action in allowed[client]
}
