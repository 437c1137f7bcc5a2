package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A load is many requests for stored content.
type load struct {
	requests int64
	bytes    int64 // of bodies and headers that the client read
	wall     time.Duration
}

// runWrk asks for paths, one after the other, over so many connections. wrk is the
// client that costs the least: the server has the rest of the machine.
func runWrk(ctx context.Context, dir, addr string, paths []string, connections int, d time.Duration) (load, error) {
	return runWrkAs(ctx, "", dir, addr, paths, connections, d)
}

// runWrkAs is runWrk with that Authorization header; "": none.
func runWrkAs(ctx context.Context, authorization, dir, addr string, paths []string, connections int, d time.Duration) (load, error) {
	script := filepath.Join(dir, "wrk.lua")
	if err := os.WriteFile(script, []byte(wrkScript(authorization, paths)), 0o644); err != nil {
		return load{}, err
	}
	out, err := exec.CommandContext(ctx, "wrk", "-t1", fmt.Sprintf("-c%d", connections),
		fmt.Sprintf("-d%ds", int(d.Seconds())), "--timeout", "20s", "-s", script, "http://"+addr).CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return parseWrk(string(out))
}

// wrkScript asks for each path in turn and says at the end what happened, in numbers.
func wrkScript(authorization string, paths []string) string {
	var b strings.Builder
	b.WriteString("local requests = {}\n")
	b.WriteString("init = function()\n")
	header := fmt.Sprintf("Accept = %q", manifestType)
	if authorization != "" {
		header += fmt.Sprintf(", Authorization = %q", authorization)
	}
	for _, p := range paths {
		fmt.Fprintf(&b, "  requests[#requests + 1] = wrk.format(\"GET\", %q, {%s})\n", p, header)
	}
	b.WriteString(`end
local next = 0
request = function()
  next = next % #requests + 1
  return requests[next]
end
done = function(summary)
  local e = summary.errors
  io.write(string.format("\nsummary %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
`)
	return b.String()
}

// parseWrk reads the line that wrkScript makes wrk say.
func parseWrk(out string) (load, error) {
	_, line, ok := strings.Cut(out, "\nsummary ")
	if !ok {
		return load{}, fmt.Errorf("wrk says no summary: %q", out)
	}
	var l load
	var microseconds, wrong int64
	if _, err := fmt.Sscan(line, &l.requests, &l.bytes, &microseconds, &wrong); err != nil {
		return load{}, fmt.Errorf("wrk's summary %q: %w", line, err)
	}
	l.wall = time.Duration(microseconds) * time.Microsecond
	if wrong > 0 {
		return l, fmt.Errorf("wrk: %d of %d requests failed", wrong, l.requests)
	}
	return l, nil
}

// runHead sends HEAD requests for path over so many connections: wrk waits for the
// body that a HEAD never has.
func runHead(ctx context.Context, addr, path string, connections int, d time.Duration) (load, error) {
	began := time.Now()
	counts := make([]int64, connections)
	clients, ctx := errgroup.WithContext(ctx)
	for n := range connections {
		clients.Go(func() (err error) {
			counts[n], err = heads(ctx, addr, path, began.Add(d))
			return err
		})
	}
	err := clients.Wait()
	l := load{wall: time.Since(began)}
	for _, c := range counts {
		l.requests += c
	}
	return l, err
}

// heads asks over one connection until the end, and gives how many answers came.
func heads(ctx context.Context, addr, path string, end time.Time) (n int64, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(end.Add(20 * time.Second)); err != nil {
		return 0, err
	}
	request := []byte("HEAD " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")
	answer := make([]byte, 4<<10)
	for ; time.Now().Before(end); n++ {
		if _, err := conn.Write(request); err != nil {
			return n, err
		}
		for have := 0; ; {
			k, err := conn.Read(answer[have:])
			if err != nil {
				return n, err
			}
			if have += k; bytes.HasSuffix(answer[:have], []byte("\r\n\r\n")) {
				break
			}
			if have == len(answer) {
				return n, errors.New("HEAD: an answer without end")
			}
		}
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
			return n, fmt.Errorf("HEAD %s: %.20q", path, answer)
		}
	}
	return n, nil
}
