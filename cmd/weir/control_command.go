package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-registry/weir/cmd/weir/config"
	"github.com/weir-registry/weir/store/disk"
)

// startUp is how long a command waits for a server that holds the store and takes no
// commands: it is about to, or about to end.
const startUp = 5 * time.Second

// runJob does a job on what a configuration keeps: in the server that runs with it, or
// else in this process. say gets what it says meanwhile, result what comes of it, whatever
// the error.
func runJob(cmd *cobra.Command, files []string, name string, args any, say func(line string), result any) error {
	c, err := config.Load(files, os.LookupEnv)
	if err != nil {
		return err
	}
	told, err := json.Marshal(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	o, err := doJob(ctx, c, name, told, cmd.ErrOrStderr(), say)
	if err != nil {
		return err
	}
	if o.Result != nil {
		if err := json.Unmarshal(o.Result, result); err != nil {
			return fmt.Errorf("%s: the server does not answer as this weir does: %w", name, err)
		}
	}
	if o.Error != "" {
		return errors.New(o.Error)
	}
	return nil
}

// doJob tries both ways until one of them is open: a server may start or end meanwhile.
func doJob(ctx context.Context, c *config.Config, name string, told []byte, stderr io.Writer, say func(string)) (outcome, error) {
	for give := time.Now().Add(startUp); ; {
		o, err := askServer(ctx, commandDir(c.Store), name, told, say)
		if !errors.Is(err, disk.ErrNoListener) {
			return o, err
		}
		o, err = doJobHere(ctx, c, name, told, stderr, say)
		if !errors.Is(err, disk.ErrLocked) || time.Now().After(give) {
			return o, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

// doJobHere does a job in this process, which holds the store meanwhile.
func doJobHere(ctx context.Context, c *config.Config, name string, told []byte, stderr io.Writer, say func(string)) (outcome, error) {
	logs := newLogs(stderr, quiet(c.Log))
	logs.release()
	a, err := compose(c, logs)
	if err != nil {
		return outcome{}, err
	}
	o := a.jobs()[name].do(ctx, told, say)
	return o, a.close(context.WithoutCancel(ctx))
}

// askServer has a job done by the server that holds the directory; "" is none. Errors:
// disk.ErrNoListener.
func askServer(ctx context.Context, root, name string, told []byte, say func(string)) (o outcome, err error) {
	if root == "" {
		return o, disk.ErrNoListener
	}
	conn, err := disk.Dial(ctx, root)
	if err != nil {
		return o, err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://weir/"+name, bytes.NewReader(told))
	if err != nil {
		return o, errors.Join(err, conn.Close())
	}
	resp, err := client.Do(req)
	if err != nil {
		return o, fmt.Errorf("%s in the running server: %w", name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		const most = 1 << 10
		said, err := io.ReadAll(io.LimitReader(resp.Body, most))
		return o, errors.Join(fmt.Errorf("%s: the running server says %s: %s", name, resp.Status, strings.TrimSpace(string(said))), err)
	}
	for answer := json.NewDecoder(resp.Body); ; say(o.Progress) {
		o = outcome{}
		if err := answer.Decode(&o); err != nil {
			return o, fmt.Errorf("%s: the running server has ended before it was done: %w", name, err)
		}
		if o.Progress == "" {
			return o, nil
		}
	}
}

// quiet lets through what a person who waits for a command must know.
func quiet(c config.Log) config.Log {
	c.Level, c.Levels = max(c.Level, config.Level(slog.LevelWarn)), nil
	return c
}
