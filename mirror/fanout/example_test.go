package fanout_test

import (
	"context"
	"fmt"

	"github.com/weir-registry/weir/mirror/fanout"
	"github.com/weir-registry/weir/origin"
)

func Example() {
	near, far := newHost("mirror.corp"), newHost("registry-1.docker.io")
	near.does(near.refuses)
	hub := fanout.New("docker.io", []fanout.Endpoint{
		{Host: near.name, Reader: near}, {Host: far.name, Reader: far},
	}, fanout.Options{}, nil)
	defer hub.Close()

	nginx, err := origin.ParseRepo("library/nginx")
	if err != nil {
		fmt.Println(err)
		return
	}
	tag, err := origin.ParseTag("1.27")
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := hub.Resolve(context.Background(), nginx, tag)
	fmt.Println(d.Source.Upstream, err)
	for _, e := range hub.Endpoints() {
		fmt.Println(e.Host, e.Up)
	}
	// Output:
	// registry-1.docker.io <nil>
	// mirror.corp false
	// registry-1.docker.io true
}
