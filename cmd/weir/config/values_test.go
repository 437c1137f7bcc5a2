package config

import (
	"encoding"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// text is a type whose values are written as one scalar.
type text[T any] interface {
	*T
	encoding.TextUnmarshaler
}

// parse reads s as a T, and gives what it prints as.
func parse[T fmt.Stringer, P text[T]](s string) (string, error) {
	var v T
	err := P(&v).UnmarshalText([]byte(s))
	return v.String(), err
}

// TestValues reads and prints: what is printed reads back and prints the same.
func TestValues(t *testing.T) {
	type parser struct {
		name  string
		parse func(string) (string, error)
	}
	duration := parser{"duration", parse[Duration]}
	size := parser{"size", parse[Size]}
	free := parser{"free", parse[Free]}
	share := parser{"share", parse[Share]}
	linger := parser{"linger", parse[Linger]}
	level := parser{"level", parse[Level]}
	address := parser{"address", parse[Address]}
	network := parser{"network", parse[Network]}
	url := parser{"url", parse[URL]}
	pattern := parser{"pattern", parse[Regexp]}
	for _, test := range []struct {
		parser
		in, want string // want "" is an error
	}{
		{share, "0", "0"},
		{share, "1.0", "1"},
		{share, "1e-3", "0.001"},
		{share, "1.01", ""},
		{share, "-0.1", ""},
		{share, "NaN", ""},
		{share, "50%", ""},
		{share, "", ""},

		{duration, "90s", "1m30s"},
		{duration, "0", "0s"},
		{duration, "0d", "0s"},
		{duration, "24h", "1d"},
		{duration, "30d", "30d"},
		{duration, "1d12h", "36h"},
		{duration, "1d30m", "24h30m"},
		{duration, "60m", "1h"},
		{duration, "1500ms", "1.5s"},
		{duration, "106751d", "106751d"},
		{duration, "106752d", ""},
		{duration, "106751d24h", ""},
		{duration, "9999999999999d", ""},
		{duration, "d", ""},
		{duration, "1.5d", ""},
		{duration, "1h1d", ""},
		{duration, "-1d", ""},
		{duration, "1d-1h", ""},
		{duration, "-0s", ""},
		{duration, "5", ""},
		{duration, "", ""},
		{duration, "5 m", ""},
		{size, "0", "0"},
		{size, "1", "1"},
		{size, "1024", "1KiB"},
		{size, "1000", "1KB"},
		{size, "4MiB", "4MiB"},
		{size, "2048MiB", "2GiB"},
		{size, "10GB", "10GB"},
		{size, "3TiB", "3TiB"},
		{size, "5TB", "5TB"},
		{size, "9223372036854775807", "9223372036854775807"},
		{size, "9223372036854775808", ""},
		{size, "8388608TiB", ""},
		{size, "8388607TiB", "8388607TiB"},
		{size, "1.5GiB", ""},
		{size, "4 MiB", ""},
		{size, "4M", ""},
		{size, "4mib", ""},
		{size, "-1", ""},
		{size, "+1", ""},
		{size, "MiB", ""},
		{size, "", ""},
		{linger, "complete", "complete"},
		{linger, "30s", "30s"},
		{linger, "0s", "0s"},
		{linger, "Complete", ""},
		{level, "debug", "debug"},
		{level, "info", "info"},
		{level, "warn", "warn"},
		{level, "error", "error"},
		{level, "INFO", ""},
		{level, "info+1", ""},
		{free, "5%", "5%"},
		{free, "0%", "0"},
		{free, "2.5%", "2.5%"},
		{free, "0.01%", "0.01%"},
		{free, "99.99%", "99.99%"},
		{free, "10GiB", "10GiB"},
		{free, "0", "0"},
		{free, "100%", ""},
		{free, "-1%", ""},
		{free, "%", ""},
		{free, "5.%", ""},
		{free, "5.123%", ""},
		{free, "5 %", ""},
		{free, "1e1%", ""},
		{free, "5.-1%", ""},
		{free, "lots", ""},
		{address, "127.0.0.1:5000", "127.0.0.1:5000"},
		{address, ":5000", ":5000"},
		{address, "[::1]:0", "[::1]:0"},
		{address, "localhost:80", "localhost:80"},
		{address, "unix:/run/weir.sock", "unix:/run/weir.sock"},
		{address, "unix:rel.sock", "unix:rel.sock"},
		{address, "::1:80", ""},
		{address, "http://x:80", ""},
		{address, "x:-1", ""},
		{network, "10.0.0.0/8", "10.0.0.0/8"},
		{network, "::1/128", "::1/128"},
		{network, "", ""},
		{url, "http://a", "http://a"},
		{url, "https://a.io:5000/", "https://a.io:5000"},
		{url, "https://a.io/b/c//", "https://a.io/b/c"},
		{url, "http://[::1]:5000", "http://[::1]:5000"},
		{url, "HTTPS://a.io", "https://a.io"},
		{url, "//a.io", ""},
		{url, "https:a.io", ""},
		{url, "https://a.io:65536", ""},
		{url, "https://a b", ""},
		{url, "https://a.io?", ""},
		{url, "https://a.io#", ""},
		{url, "https://@a.io", ""},
		{pattern, "v.*", "v.*"},
		{pattern, `(?i)RC\d`, `(?i)RC\d`},
		{pattern, `a\`, ""},
		{pattern, "(?x)a", ""},
	} {
		got, err := test.parse(test.in)
		if (err != nil) != (test.want == "") {
			t.Errorf("%s %q: error %v", test.name, test.in, err)
			continue
		}
		if err != nil {
			continue
		}
		if got != test.want {
			t.Errorf("%s %q prints as %q, want %q", test.name, test.in, got, test.want)
		}
		if again, err := test.parse(got); err != nil || again != got {
			t.Errorf("%s %q prints as %q, which reads as %q, %v", test.name, test.in, got, again, err)
		}
	}
}

func TestDurationsThatPrint(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Second, time.Hour, day, 90 * time.Minute, day + 1, math.MaxInt64} {
		var got Duration
		if err := got.UnmarshalText([]byte(Duration(d).String())); err != nil || got.Std() != d {
			t.Errorf("%v is %v after printing, %v", d, got.Std(), err)
		}
	}
}

func TestRegexpMatchesWhole(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"v1", "v1", true},
		{"v1", "v12", false},
		{"v1", "xv1", false},
		{"a|bc", "bc", true},
		{"a|bc", "ac", false},
		{"v.*", "v1\n", false},
		{"(?s)v.*", "v1\n", true},
		{"^v1$", "v1", true},
		{"(?i)v1", "V1", true},
	} {
		var r Regexp
		if err := r.UnmarshalText([]byte(test.pattern)); err != nil {
			t.Fatal(err)
		}
		if got := r.MatchString(test.s); got != test.want {
			t.Errorf("%q matches %q: %v", test.pattern, test.s, got)
		}
		if got := r.Regexp().MatchString(test.s); got != test.want {
			t.Errorf("the compiled %q matches %q: %v", test.pattern, test.s, got)
		}
	}
	if (Regexp{}).MatchString("") {
		t.Error("no pattern matches")
	}
}

func TestExpand(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "B_2": "two", "E": "", "X": "${A}$${A}"}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		"":               "",
		"$":              "$",
		"$A":             "$A",
		"$$":             "$$",
		"{A}":            "{A}",
		"${A}":           "1",
		"a${A}b${B_2}c":  "a1btwoc",
		"${E}":           "",
		"${E:-x}":        "x",
		"${A:-x}":        "1",
		"${N:-x}":        "x",
		"${N:-}":         "",
		"${N:-a:-b}":     "a:-b",
		"$${A}":          "${A}",
		"$${A":           "${A",
		"$$${A}":         "$${A}",
		"a$${A}${A}":     "a${A}1",
		"${X}":           "${A}$${A}",
		`v\d+$`:          `v\d+$`,
		"$argon2id$v=19": "$argon2id$v=19",
	} {
		if got, err := expand(in, env); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"${N}", "${", "${A", "${}", "${:-x}", "${a b}", "${1}", "${N:-${A}}", "${A:=x}"} {
		if got, err := expand(in, env); err == nil {
			t.Errorf("%q is %q", in, got)
		}
	}
	for _, s := range []string{"", "${A}", "$${A}", "$$${", "a$b{c}"} {
		if got, err := expand(escape(s), env); err != nil || got != s {
			t.Errorf("%q escaped and expanded is %q, %v", s, got, err)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"listen", "external_url", "http2", "drain", "ca", "url", "tls"}
	for in, want := range map[string]string{
		"lisen":                  "listen",
		"listne":                 "listen",
		"Listen":                 "listen",
		"extrenal_ulr":           "external_url",
		"http":                   "http2",
		"drian":                  "drain",
		"uri":                    "url",
		"cb":                     "",
		"x":                      "",
		"":                       "",
		"authz":                  "",
		strings.Repeat("l", 999): "",
	} {
		if got, _ := nearest(in, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", in, got, want)
		}
	}
}

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"docker.io": true, "localhost": true, "hub": true, "a-b.c1": true, "registry.corp:5000": true, "10.0.0.1": true,
		"": false, "Docker.io": false, "a..b": false, ".a": false, "a.": false, "-a": false, "a-": false, "a_b": false,
		"a:": false, "a:0": false, "a:01": false, "a:65536": false, "a:b": false, "a/b": false, "..": false, "[::1]:80": false,
		strings.Repeat("a", 254): false,
	} {
		if got := ValidHost(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
