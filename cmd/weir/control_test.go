package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A command that is stopped, and reads nothing of what it is told, does not keep weir from
// its end; nor does one that has not said what it wants.
func TestStoppedCommandHoldsUpNobody(t *testing.T) {
	const all = "POST /tell HTTP/1.1\r\nHost: weir\r\nContent-Length: 2\r\n\r\n{}"
	for name, said := range map[string]string{"reads nothing": all, "has said half": strings.TrimSuffix(all, "}")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := false
				jobs := map[string]job{"tell": func(ctx context.Context, _ json.RawMessage, say func(string)) (any, error) {
					defer func() { told = true }()
					for ctx.Err() == nil {
						say("more")
					}
					return nil, ctx.Err()
				}}
				ctx, end := context.WithCancel(t.Context())
				l := newPipes()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					(&commands{l}).serve(ctx, jobs, slog.New(slog.DiscardHandler))
				}()
				conn := l.dial()
				defer conn.Close()
				if _, err := io.WriteString(conn, said); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				end()
				select {
				case <-ended:
				case <-time.After(lastWords + time.Second):
					t.Error("it goes on")
					_ = conn.Close()
					<-ended
				}
				if said == all && !told {
					t.Error("it did not wait for the job")
				}
			})
		})
	}
}
