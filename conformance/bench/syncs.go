package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// readSyncs gives how often weir has waited for its disk until now. That there are none is an
// error: who has started has synced.
func readSyncs(ctx context.Context, admin string) (n float64, err error) {
	n, err = readSeries(ctx, admin, func(series string) bool {
		return strings.HasPrefix(series, "weir_store_operations_total{") && strings.Contains(series, `operation="sync"`)
	})
	if err == nil && n == 0 {
		err = errors.New("metrics: no syncs in them")
	}
	return n, err
}

// readCached gives how many bytes of mirrored blobs weir keeps.
func readCached(ctx context.Context, admin string) (n float64, err error) {
	return readSeries(ctx, admin, func(series string) bool { return series == "weir_cache_bytes" })
}

// readSeries adds up some of what weir says of itself where its operator looks. Peers do
// not say.
func readSeries(ctx context.Context, admin string, which func(series string) bool) (n float64, err error) {
	resp, err := get(ctx, http.DefaultClient, "http://"+admin+"/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("metrics: %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Text()
		end := strings.LastIndexByte(line, ' ')
		if end < 0 || !which(line[:end]) {
			continue
		}
		x, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metrics: %w", err)
		}
		n += x
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("metrics: %w", err)
	}
	return n, nil
}
