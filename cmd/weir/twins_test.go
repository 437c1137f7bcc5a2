package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/origin/observe"
	"github.com/weir-registry/weir/origin/remote/remotetest"
	"github.com/weir-registry/weir/store"
	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/mem"
)

// twins are two replicas in this process, over one store in memory and one Redis.
type twins struct {
	t       testing.TB
	redis   *coordtest.Server
	records store.Records
	each    [2]*running
	apps    [2]*app
}

// newTwins starts them; patience is theirs with Redis, and more what the configuration of
// both has besides.
func newTwins(t testing.TB, u *remotetest.Upstream, patience time.Duration, more string) *twins {
	t.Helper()
	w := &twins{t: t, redis: coordtest.Start(t), records: mem.NewRecords()}
	blobs := mem.NewBlobs()
	p := parts{patience: patience, open: func(*kept, config.Store, *observe.Metrics, *slog.Logger) (store.Blobs, store.Records, func() (free, total int64, err error), error) {
		return blobs, w.records, func() (free, total int64, err error) { return 1 << 40, 1 << 40, nil }, nil
	}}
	for i := range w.each {
		w.each[i], w.apps[i] = w.start(p, u, more)
	}
	return w
}

func (w *twins) start(p parts, u *remotetest.Upstream, more string) (*running, *app) {
	t := w.t
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, data: t.TempDir(), url: "http://" + l.Addr().String(), log: &logBuffer{changed: make(chan struct{})}, ended: make(chan error, 1)}
	file := filepath.Join(t.TempDir(), "weir.yaml")
	text := fmt.Sprintf("log: {format: json, level: debug}\nserver: {listen: '127.0.0.1:0'}\nstore: {blobs: {filesystem: {root: '%s'}}, redis: {url: '%s', advertise: '%s'}}\nmirror:\n  well_known: false\n%s%s",
		r.data, w.redis.URL(), r.url, hub(u, ""), more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load([]string{file}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	logs := newLogs(r.log, c.Log)
	a, err := composeOf(p, c, logs)
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(a.public, c.Server, logs.room("server"))
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			err := server.Close()
			<-served
			r.ended <- errors.Join(err, a.close(context.Background()))
			logs.release()
		})
	}
	t.Cleanup(r.end)
	return r, a
}
