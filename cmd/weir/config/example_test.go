package config_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/weir-registry/weir/cmd/weir/config"
)

func Example() {
	dir, err := os.MkdirTemp("", "weir-config-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, []byte("server: {listen: ':${PORT:-5000}', drain: 1d}\n"), 0o600); err != nil {
		panic(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		panic(err)
	}
	fmt.Println(c.Server.Listen[0], c.Server.Drain, c.Admin.Listen)
	// Output: :5000 1d 127.0.0.1:5001
}
