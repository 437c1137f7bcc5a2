package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what args ask for, shows progress on progress and the table on out.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	var (
		only    = flags.String("rows", "", "comma separated regular expressions: rows whose name matches none are left out")
		peers   = flags.String("servers", "", "the same for servers")
		weir    = flags.String("weir", "bin/weir", "the binary to measure")
		tools   = flags.String("tools", "conformance/tools.sh", "what knows where the peers are")
		scratch = flags.String("dir", "/var/tmp", "where servers keep their data; not a file system in memory")
		blobs   = flags.Int("blobs", 1_000_000, "how many there are in row gc, at least ten; each takes two files of 4 KiB, and the bound of its memory is meant for a million")
		reports = flags.String("reports", "conformance/reports", "where results are kept as JSON, with the profiles of what missed its goal")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	rowNames, err := parseFilter(*only)
	if err != nil {
		return err
	}
	serverNames, err := parseFilter(*peers)
	if err != nil {
		return err
	}
	rows, err := pick(allRows(), rowNames)
	if err != nil {
		return err
	}
	binary, err := filepath.Abs(*weir)
	if err != nil {
		return err
	}
	var known []string
	for _, s := range allServers(binary) {
		known = append(known, s.name)
	}
	if err := serverNames.know("server", known); err != nil {
		return err
	}
	if err := onDisk(*scratch); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(*scratch, "weir-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	b := &bench{dir: dir, tools: *tools, blobs: *blobs, progress: progress}
	if b.data, err = newDataset(filepath.Join(dir, "data")); err != nil {
		return err
	}
	r := newReport(time.Now())
	for _, s := range allServers(binary) {
		if !serverNames.match(s.name) {
			continue
		}
		if s.program, err = locate(ctx, s, *tools); err != nil {
			fmt.Fprintf(progress, "%s is left out: %v\n", s.name, err)
			continue
		}
		b.servers = append(b.servers, s)
	}
	for _, w := range rows {
		b.measure(ctx, w, r)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	r.judge()
	if err := b.profile(ctx, r, filepath.Join(*reports, r.name())); err != nil {
		return err
	}
	if err := r.table(out); err != nil {
		return err
	}
	file, err := r.save(*reports)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d rows in %s; kept in %s\n", len(r.Rows), time.Since(r.Started).Round(time.Second), file)
	return r.failure()
}

// A filter is a list of expressions, one of which a name must match; an empty one
// matches all.
type filter []*regexp.Regexp

func parseFilter(text string) (filter, error) {
	var f filter
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		e, err := regexp.Compile(part)
		if err != nil {
			return nil, err
		}
		f = append(f, e)
	}
	return f, nil
}

func (f filter) match(name string) bool {
	for _, e := range f {
		if e.MatchString(name) {
			return true
		}
	}
	return len(f) == 0
}

// know is an error if one of the expressions matches none of the names that there
// are: what was asked for would be missing from the table without a word.
func (f filter) know(what string, names []string) error {
	for _, e := range f {
		if !slices.ContainsFunc(names, e.MatchString) {
			return fmt.Errorf("no %s is called %s: there are %s", what, e, strings.Join(names, ", "))
		}
	}
	return nil
}

// pick gives the rows whose name matches; an expression that matches none is an error.
func pick(rows []row, names filter) (picked []row, err error) {
	var known []string
	for _, w := range rows {
		known = append(known, w.name)
		if names.match(w.name) {
			picked = append(picked, w)
		}
	}
	return picked, names.know("row", known)
}

// onDisk refuses a directory whose files are in memory: there a sync costs nothing.
func onDisk(dir string) error {
	const tmpfs = 0x01021994 // TMPFS_MAGIC, statfs(2)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if fs.Type == tmpfs {
		return fmt.Errorf("%s is in memory (tmpfs): pushes there are not durable; choose another -dir", dir)
	}
	return nil
}
