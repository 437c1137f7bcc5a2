package local_test

import (
	"context"
	"fmt"
	"log"
	"regexp"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/store/mem"
)

// A registry in memory whose versions are immutable.
func Example() {
	ctx := context.Background()
	reg, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{
		ImmutableTags: []*regexp.Regexp{regexp.MustCompile(`v\d+`)},
	})
	if err != nil {
		log.Fatal(err)
	}
	repo, err := origin.ParseRepo("team/app")
	if err != nil {
		log.Fatal(err)
	}
	v1, err := origin.ParseTag("v1")
	if err != nil {
		log.Fatal(err)
	}

	upload, err := reg.Upload(ctx, repo, "", digest.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := upload.Write([]byte("{}")); err != nil {
		log.Fatal(err)
	}
	config, err := upload.Commit(ctx, digest.FromString("{}"))
	if err != nil {
		log.Fatal(err)
	}

	for _, annotation := range []string{"first", "second"} {
		m := origin.Manifest{Bytes: fmt.Appendf(nil,
			`{"schemaVersion":2,"config":{"mediaType":"application/x","digest":%q,"size":2},"layers":[],"annotations":{"a":%q}}`,
			config.Digest, annotation)}
		m.MediaType = origin.MediaTypeOCIManifest
		_, err := reg.Push(ctx, repo, m, origin.PushOptions{Tags: []origin.Ref{v1}})
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// DENIED: tag v1 of team/app is immutable and names sha256:2c9984d4c23894803ca1258434078cdf2a70f7e6d4cc723e47d1a760592dae0c
}
