package lifetime_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/lifetime"
	"github.com/weir-registry/weir/origin/local"
	"github.com/weir-registry/weir/store/mem"
)

// What would be removed of a registry, and why the rest stays.
func ExampleCollector() {
	ctx, day := context.Background(), 24*time.Hour
	reg, err := local.New(mem.NewBlobs(), mem.NewRecords(), local.Options{Grace: day, Sole: true})
	if err != nil {
		log.Fatal(err)
	}
	repo, err := origin.ParseRepo("team/app")
	if err != nil {
		log.Fatal(err)
	}
	upload, err := reg.Upload(ctx, repo, "", digest.SHA256)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := upload.Write([]byte("a layer whose manifest is on its way")); err != nil {
		log.Fatal(err)
	}
	if _, err := upload.Commit(ctx, digest.FromString("a layer whose manifest is on its way")); err != nil {
		log.Fatal(err)
	}
	report, err := lifetime.NewCollector(reg, reg, lifetime.CollectOptions{Grace: day}).Run(ctx, true)
	if err != nil {
		log.Fatal(err)
	}
	if err := report.Text(os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// would free 0 blobs, 0 B
	// kept  1  36 B  leased
}
