package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// readSyncs gives how often weir has waited for its disk until now, as it says itself
// where its operator looks. Peers do not say.
func readSyncs(ctx context.Context, admin string) (n float64, err error) {
	resp, err := get(ctx, http.DefaultClient, "http://"+admin+"/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("metrics: %s", resp.Status)
	}
	return parseSyncs(resp.Body)
}

// parseSyncs adds up the syncs of all backends and results in an exposition. That there
// are none is an error: who has started has synced.
func parseSyncs(r io.Reader) (n float64, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		series, number, _ := strings.Cut(lines.Text(), "} ")
		if !strings.HasPrefix(series, "weir_store_operations_total{") || !strings.Contains(series, `operation="sync"`) {
			continue
		}
		x, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, fmt.Errorf("metrics: %w", err)
		}
		n += x
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("metrics: %w", err)
	}
	if n == 0 {
		return 0, errors.New("metrics: no syncs in them")
	}
	return n, nil
}
