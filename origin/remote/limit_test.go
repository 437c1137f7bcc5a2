package remote

import (
	"net/http"
	"testing"
	"time"
)

func TestReadLimit(t *testing.T) {
	for _, x := range []struct {
		limit, remaining string
		wantLimit, want  int
		window           time.Duration
		ok               bool
	}{
		{"100;w=21600", "20;w=21600", 100, 20, 6 * time.Hour, true},
		{"100", "20", 100, 20, 0, true},
		{"100", "20;w=60", 100, 20, time.Minute, true},
		{" 100 ; W=60 ", "0", 100, 0, time.Minute, true},
		{"100;comment=x;w=60", "99", 100, 99, time.Minute, true},
		{"100, 100;w=1", "20", 100, 20, 0, true},
		{"100;w=99999999999999", "20", 100, 20, 30 * 24 * time.Hour, true},
		{"100;w=60", "200;w=60", 100, 100, time.Minute, true},
		{"", "", 0, 0, 0, false},
		{"100;w=60", "", 0, 0, 0, false},
		{"", "20;w=60", 0, 0, 0, false},
		{"0;w=60", "0;w=60", 0, 0, 0, false},
		{"-1", "20", 0, 0, 0, false},
		{"100", "-1", 0, 0, 0, false},
		{"many", "20", 0, 0, 0, false},
		{"100;w=long", "20", 0, 0, 0, false},
		{"100;w=-1", "20", 0, 0, 0, false},
		{"99999999999999999999", "20", 0, 0, 0, false},
	} {
		h := http.Header{}
		h.Set("ratelimit-limit", x.limit)
		h.Set("ratelimit-remaining", x.remaining)
		limit, remaining, window, ok := readLimit(h)
		if limit != x.wantLimit || remaining != x.want || window != x.window || ok != x.ok {
			t.Errorf("%q %q is %d of %d in %v, %t", x.limit, x.remaining, remaining, limit, window, ok)
		}
	}
}

func FuzzReadLimit(f *testing.F) {
	f.Add("100;w=21600", "20;w=21600")
	f.Add("100, 100;w=10;w=x", ";;=")
	f.Fuzz(func(t *testing.T, limit, remaining string) {
		n, left, window, ok := readLimit(http.Header{"Ratelimit-Limit": {limit}, "Ratelimit-Remaining": {remaining}})
		switch {
		case !ok && (n != 0 || left != 0 || window != 0):
			t.Errorf("no limit, but %d of %d in %v", left, n, window)
		case ok && (n <= 0 || left < 0 || left > n || window < 0 || window > 30*24*time.Hour):
			t.Errorf("%d of %d in %v", left, n, window)
		}
	})
}
