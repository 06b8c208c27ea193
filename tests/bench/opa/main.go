// SPDX-License-Identifier: Apache-2.0

// Opa answers Envoy's ext_authz with OPA's engine: a policy in Rego, prepared ahead, evaluated for every request.
//
// OPA's own plugin for Envoy is not a Go module that can be fetched by everybody, so this does the least that the
// plugin does: it hands over the request as the plugin's `input` has it, and turns `data.envoy.authz.allow` into an
// answer. It keeps no decision log and no metrics, so it is somewhat quicker than the plugin would be.
//
//	opa ADDRESS POLICY.rego
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

type server struct {
	auth.UnimplementedAuthorizationServer
	query rego.PreparedEvalQuery
}

func (s *server) Check(ctx context.Context, request *auth.CheckRequest) (*auth.CheckResponse, error) {
	http := request.GetAttributes().GetRequest().GetHttp()
	path, _, _ := strings.Cut(http.GetPath(), "?")
	var segments []any
	for _, segment := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		segments = append(segments, segment)
	}
	headers := map[string]any{}
	for name, value := range http.GetHeaders() {
		headers[name] = value
	}
	input := map[string]any{
		"parsed_path": segments,
		"attributes": map[string]any{
			"source": map[string]any{
				"principal": request.GetAttributes().GetSource().GetPrincipal(),
				"address":   request.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress(),
			},
			"request": map[string]any{
				"http": map[string]any{"method": http.GetMethod(), "path": http.GetPath(), "host": http.GetHost(), "headers": headers},
			},
		},
	}
	value, err := ast.InterfaceToValue(input)
	if err != nil {
		return denied(codes.Internal), nil
	}
	results, err := s.query.Eval(ctx, rego.EvalParsedInput(value))
	if err != nil || !results.Allowed() {
		return denied(codes.PermissionDenied), nil
	}
	return &auth.CheckResponse{
		Status: &status.Status{Code: int32(codes.OK)},
		HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{
			Headers:         []*core.HeaderValueOption{{Header: &core.HeaderValue{Key: "x-iam-principal", Value: "user"}}},
			HeadersToRemove: []string{"authorization"},
		}},
	}, nil
}

func denied(code codes.Code) *auth.CheckResponse {
	return &auth.CheckResponse{Status: &status.Status{Code: int32(code)}}
}

func main() {
	if len(os.Args) != 3 {
		log.Fatalf("usage: %s ADDRESS POLICY.rego", os.Args[0])
	}
	query, err := rego.New(rego.Query("data.envoy.authz.allow"), rego.Load([]string{os.Args[2]}, nil)).PrepareForEval(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	grpcServer := grpc.NewServer()
	auth.RegisterAuthorizationServer(grpcServer, &server{query: query})
	grpc_health_v1.RegisterHealthServer(grpcServer, health.NewServer())
	fmt.Println("serving", listener.Addr())
	log.Fatal(grpcServer.Serve(listener))
}
