package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote"
)

func Example() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/":
		case "/v2/library/hello/manifests/latest":
			w.Header().Set("Content-Type", origin.MediaTypeOCIManifest)
			_, _ = io.WriteString(w, `{"schemaVersion":2}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer upstream.Close()

	at, err := url.Parse(upstream.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	registry, err := remote.New(remote.Options{URL: at, UserAgent: "example/1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer registry.Close()

	hello, err := origin.ParseRepo("library/hello")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, tag := range []string{"latest", "none"} {
		ref, err := origin.ParseTag(tag)
		if err != nil {
			fmt.Println(err)
			return
		}
		m, err := registry.Manifest(context.Background(), hello, ref)
		if e, ok := errors.AsType[*origin.UpstreamError](err); ok {
			fmt.Println(tag, "is not there:", e.NotThere())
			continue
		}
		fmt.Println(tag, m.MediaType, string(m.Bytes))
	}
	// Output:
	// latest application/vnd.oci.image.manifest.v1+json {"schemaVersion":2}
	// none is not there: true
}
