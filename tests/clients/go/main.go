// SPDX-License-Identifier: Apache-2.0

// Asks the data listener what a client may ask, and prints what came back as JSON.
//
//	client TARGET DESCRIPTORS REQUESTS
//
// TARGET is an address as gRPC writes it, DESCRIPTORS a FileDescriptorSet of the contract, REQUESTS a JSON file of
// requests in base64.
package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const service = "/sidecar.v1.AuthorizationService/"

// outcome is what became of one call.
type outcome struct {
	Code    uint32          `json:"code"`
	Message string          `json:"message,omitempty"`
	Details string          `json:"details,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`
}

type client struct {
	connection *grpc.ClientConn
	files      *protoregistry.Files
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func (c client) message(name string) *dynamicpb.Message {
	descriptor := must(c.files.FindDescriptorByName(protoreflect.FullName("sidecar.v1." + name)))
	return dynamicpb.NewMessage(descriptor.(protoreflect.MessageDescriptor))
}

func (c client) call(ctx context.Context, method string, request, answer proto.Message, options ...grpc.CallOption) outcome {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.connection.Invoke(ctx, method, request, answer, options...); err != nil {
		failure := status.Convert(err)
		return outcome{
			Code:    uint32(failure.Code()),
			Message: failure.Message(),
			Details: base64.StdEncoding.EncodeToString(must(proto.Marshal(failure.Proto()))),
		}
	}
	return outcome{Answer: must(protojson.MarshalOptions{UseProtoNames: true}.Marshal(answer))}
}

func main() {
	var descriptors descriptorpb.FileDescriptorSet
	must(0, proto.Unmarshal(must(os.ReadFile(os.Args[2])), &descriptors))
	var texts map[string]string
	must(0, json.Unmarshal(must(os.ReadFile(os.Args[3])), &texts))
	connection := must(grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer connection.Close()
	c := client{connection, must(protodesc.NewFiles(&descriptors))}
	ctx := context.Background()

	ask := func(ctx context.Context, method, name, text string, options ...grpc.CallOption) outcome {
		request := c.message(name + "Request")
		must(0, proto.Unmarshal(must(base64.StdEncoding.DecodeString(texts[text])), request))
		return c.call(ctx, service+method, request, c.message(name+"Response"), options...)
	}

	results := map[string]any{}
	annotated := metadata.AppendToOutgoingContext(ctx, "trace-bin", string([]byte{0, 1, 2, 255}), "x-request-id", "7")
	results["allow"] = ask(annotated, "Authorize", "Authorize", "allow")
	results["deny"] = ask(ctx, "Authorize", "Authorize", "deny")
	results["batch"] = ask(ctx, "BatchAuthorize", "BatchAuthorize", "batch")
	results["invalid"] = ask(ctx, "Authorize", "Authorize", "invalid")
	results["oversize"] = ask(ctx, "BatchAuthorize", "BatchAuthorize", "oversize")
	results["unknown"] = ask(ctx, "Nothing", "Authorize", "allow")
	results["compressed"] = ask(ctx, "Authorize", "Authorize", "long", grpc.UseCompressor(gzip.Name))

	var health grpc_health_v1.HealthCheckResponse
	checked := c.call(ctx, "/grpc.health.v1.Health/Check", &grpc_health_v1.HealthCheckRequest{}, &health)
	checked.Answer = must(json.Marshal(hex.EncodeToString(must(proto.Marshal(&health)))))
	results["health"] = checked

	var wait sync.WaitGroup
	var lock sync.Mutex
	many := 0
	for range 100 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if ask(ctx, "Authorize", "Authorize", "allow").Code == 0 {
				lock.Lock()
				many++
				lock.Unlock()
			}
		}()
	}
	wait.Wait()
	results["many"] = many
	must(0, json.NewEncoder(os.Stdout).Encode(results))
}
