package main

import (
	"time"

	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/store/disk"
)

// The backends of a store, as metrics call them.
const (
	filesystem = "filesystem"
	inBucket   = "s3"
)

// countSyncs counts and times what a store waits for until something is durable: what
// it costs most.
func countSyncs(m *observe.Metrics) func(disk.FS) disk.FS {
	return func(fs disk.FS) disk.FS { return syncedFS{fs, m} }
}

// timeSync does a sync, and notes it.
func timeSync(m *observe.Metrics, sync func() error) error {
	began := time.Now()
	err := sync()
	m.StoreOperation(filesystem, "sync", time.Since(began), err)
	return err
}

type syncedFS struct {
	disk.FS
	metrics *observe.Metrics
}

func (s syncedFS) Create(name string) (disk.File, error) { return s.file(s.FS.Create(name)) }

func (s syncedFS) Append(name string) (disk.File, error) { return s.file(s.FS.Append(name)) }

func (s syncedFS) file(f disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return syncedFile{f, s.metrics}, nil
}

func (s syncedFS) Sync(name string) error {
	return timeSync(s.metrics, func() error { return s.FS.Sync(name) })
}

func (s syncedFS) SyncAll() error { return timeSync(s.metrics, s.FS.SyncAll) }

type syncedFile struct {
	disk.File
	metrics *observe.Metrics
}

func (f syncedFile) Sync() error { return timeSync(f.metrics, f.File.Sync) }
