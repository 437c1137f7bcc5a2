package client_test

import (
	"fmt"

	"github.com/weir-registry/weir/cmd/weir/client"
)

func Example() {
	var m client.Mirror
	if err := m.URL.UnmarshalText([]byte("http://127.0.0.1:5000")); err != nil {
		panic(err)
	}
	text, err := client.Podman(m, []string{"docker.io"}).New()
	if err != nil {
		panic(err)
	}
	fmt.Print(string(text))
	// Output:
	// # >>> weir client: it writes what follows, and takes it out again
	// [[registry]]
	// prefix = "docker.io"
	// location = "docker.io"
	//
	// [[registry.mirror]]
	// location = "127.0.0.1:5000/docker.io"
	// insecure = true
	// # <<< weir client
}
