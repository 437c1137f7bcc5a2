package serve_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/origin/serve"
	"github.com/weir-registry/weir/store/mem"
)

// A registry in memory, for a test that needs one.
func Example() {
	registry, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := httptest.NewServer(serve.New(registry, serve.Options{Stall: time.Minute}))
	defer server.Close()

	const hello = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	push, err := http.Post(server.URL+"/v2/team/app/blobs/uploads/?digest="+hello, "application/octet-stream", strings.NewReader("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer push.Body.Close()
	fmt.Println(push.Status)

	pull, err := http.Get(server.URL + push.Header.Get("Location"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pull.Body.Close()
	b, err := io.ReadAll(pull.Body)
	fmt.Println(pull.Status, string(b), err)

	// Output:
	// 201 Created
	// 200 OK hello <nil>
}
