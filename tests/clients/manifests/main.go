// SPDX-License-Identifier: Apache-2.0

// Reads manifests with the code of those who define them.
//
//	manifests kustomize FOLDER     prints what Kustomize makes of a folder
//	manifests mesh-config FILE     reads Istio's mesh configuration, in which nothing may be unknown
//	manifests istio FILE           reads the specifications of Istio's resources likewise
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	mesh "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"

	yaml "go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	utilyaml "sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: manifests kustomize|mesh-config|istio PATH"))
	}
	modes := map[string]func(string) error{"kustomize": build, "mesh-config": meshConfig, "istio": resources}
	run, known := modes[os.Args[1]]
	if !known {
		fail(fmt.Errorf("`%s` is no mode", os.Args[1]))
	}
	if err := run(os.Args[2]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func build(folder string) error {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return err
	}
	text, err := built.AsYaml()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

func meshConfig(path string) error {
	return each(path, func(document map[string]any) error { return read(document["meshConfig"], &mesh.MeshConfig{}) })
}

func resources(path string) error {
	return each(path, func(document map[string]any) error {
		switch document["kind"] {
		case "AuthorizationPolicy":
			return read(document["spec"], &security.AuthorizationPolicy{})
		case "ServiceEntry":
			return read(document["spec"], &networking.ServiceEntry{})
		case "VirtualService":
			return read(document["spec"], &networking.VirtualService{})
		}
		return fmt.Errorf("%v is none of Istio's kinds that are known here", document["kind"])
	})
}

// each calls use with every document of a file of YAML.
func each(path string, use func(map[string]any) error) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document map[string]any
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := use(document); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
}

// read has a message take a value, in which nothing may be unknown to it.
func read(value any, message proto.Message) error {
	if value == nil {
		return errors.New("there is nothing to read")
	}
	text, err := yaml.Marshal(value)
	if err != nil {
		return err
	}
	asJson, err := utilyaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	return protojson.UnmarshalOptions{}.Unmarshal(asJson, message)
}
