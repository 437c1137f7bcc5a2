package disk_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/weir-registry/weir/store/disk"
	"github.com/weir-registry/weir/store/disk/disktest"
)

// helpers are what this binary does, instead of its tests, for a test that traces
// it: see helperEnv.
var helpers = map[string]func(dir string) error{
	"writes": helpWrites,
	"links":  helpLinks,
}

// helperEnv names the helper that this process is, helperDir the directory that it
// works in.
const (
	helperEnv = "STORE_DISK_HELPER"
	helperDir = "STORE_DISK_DIR"
)

func TestMain(m *testing.M) {
	if help, ok := helpers[os.Getenv(helperEnv)]; ok {
		if err := help(os.Getenv(helperDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// traced runs a helper under strace and gives the calls that it made.
func traced(t *testing.T, helper, dir string) []disktest.Call {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatalf("%v: the order of system calls cannot be proved without it", err)
	}
	out := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-y", "-s", "65536", "-o", out,
		"-e", "trace=open,openat,openat2,creat,write,pwrite64,writev,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,truncate,ftruncate",
		os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+helper, helperDir+"="+dir)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("helper %s: %v\n%s", helper, err, msg)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	events, err := disktest.ParseTrace(f)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// withStore runs do on the store of dir.
func withStore(dir string, do func(ctx context.Context, s *disk.Store) error) error {
	s, err := disk.Open(dir, disk.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	return do(context.Background(), s)
}
