package remote

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// readLimit reads what an answer says of its sender's limits, in the headers that
// Docker Hub sends: "ratelimit-limit: 100;w=21600" and "ratelimit-remaining:
// 20;w=21600", requests in a window of seconds. ok is false if it says nothing, or
// nothing that makes sense. A window that is not given is 0.
func readLimit(h http.Header) (limit, remaining int, window time.Duration, ok bool) {
	limit, window, ok = parseQuota(h.Get("Ratelimit-Limit"))
	if !ok || limit == 0 {
		return 0, 0, 0, false
	}
	remaining, w, ok := parseQuota(h.Get("Ratelimit-Remaining"))
	if !ok {
		return 0, 0, 0, false
	}
	if window == 0 {
		window = w
	}
	return limit, min(remaining, limit), window, true
}

// parseQuota reads "100;w=21600": a number, and the seconds that it is for. Where
// several are listed the first one counts; other parameters do not. No window is
// longer than 30 days.
func parseQuota(s string) (n int, window time.Duration, ok bool) {
	const most = 30 * 24 * time.Hour
	first, _, _ := strings.Cut(s, ",")
	number, parameters, _ := strings.Cut(first, ";")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || n < 0 {
		return 0, 0, false
	}
	for p := range strings.SplitSeq(parameters, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(key, "w") {
			continue
		}
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds < 0 {
			return 0, 0, false
		}
		window = time.Duration(min(seconds, int64(most/time.Second))) * time.Second
	}
	return n, window, true
}
