# SPDX-License-Identifier: Apache-2.0
"""
A ``CheckRequest`` as Envoy sends it, made from its parts: for the command line, and for proxies that do not speak gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.json_format import ParseDict, ParseError

from sidecar.model.errors import RequestError
from sidecar.wire.sidecar.ext_authz.v1 import ext_authz_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRequest:
    """
    What a proxy says of a request.

    Attributes:
        target: Path and query, as received.
        headers: Names and values as received; several of one name are joined by commas.
        source_address: Of whoever is connected to the proxy.
        peer: The name in the certificate of the peer.
        extensions: Context extensions of the proxy's configuration.
        metadata: What filters of the proxy found out: by name of the filter, objects of JSON.
    """

    method: str
    target: str
    host: str = ""
    scheme: str = "https"
    headers: Sequence[tuple[str, str]] = ()
    source_address: str = ""
    peer: str = ""
    sni: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """
        Return the message, serialized.

        Raises:
            RequestError: A text holds half of a surrogate pair, or metadata is nested too deeply.
        """
        message = pb.CheckRequest()
        attributes = message.attributes
        try:
            if self.source_address:
                attributes.source.address.socket_address.address = self.source_address
            attributes.source.principal = self.peer
            attributes.tls_session.sni = self.sni
            http = attributes.request.http
            http.method, http.path, http.host, http.scheme = self.method, self.target, self.host, self.scheme
            pseudo = {":method": self.method, ":path": self.target, ":authority": self.host, ":scheme": self.scheme}
            for name, value in (*pseudo.items(), *self.headers):
                key = name.lower()
                http.headers[key] = f"{http.headers[key]},{value}" if key in http.headers else value
            for name, value in self.extensions.items():
                attributes.context_extensions[name] = value
            for name, members in self.metadata.items():
                ParseDict(dict(members), attributes.metadata_context.filter_metadata[name])
            return bytes(message.SerializeToString())
        except (ParseError, ValueError) as error:
            raise RequestError(f"the request cannot be sent: {str(error).lower()}", field="request") from None
