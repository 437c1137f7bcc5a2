//go:build clients || chaos

package conformance

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// upstream is Debian's docker-registry: the registry that weir mirrors.
type upstream struct {
	*process
	addr string
}

func startUpstream(t *testing.T, dir string) *upstream {
	t.Helper()
	return startUpstreamOn(t, dir, fmt.Sprintf("{filesystem: {rootdirectory: %q}}", filepath.Join(dir, "upstream")))
}

// startUpstreamOn is startUpstream with its own storage.
func startUpstreamOn(t *testing.T, dir, storage string) *upstream {
	t.Helper()
	u := &upstream{addr: freeAddr(t)}
	file := write(t, filepath.Join(dir, "upstream.yml"), fmt.Sprintf(`
version: 0.1
log: {level: warn, accesslog: {disabled: false}}
storage: %s
http: {addr: %q}
`, storage, u.addr))
	// It does not start where the machine has authorities of its own for AWS.
	u.process = start(t, "docker-registry", []string{"AWS_CA_BUNDLE="}, "docker-registry", "serve", file)
	u.ready(t, listens("tcp", u.addr))
	return u
}

// request is one line of the upstream's access log.
type request struct {
	method, path string
	status       int
	bytes        int64 // of the body
}

func (r request) String() string { return fmt.Sprintf("%s %s %d", r.method, r.path, r.status) }

var accessLine = regexp.MustCompile(`"([A-Z]+) (/v2/[^ ?]*)\S* HTTP/[0-9.]+" ([0-9]{3}) ([0-9]+)`)

// requests gives what was asked of the upstream, but for the first skip requests.
func (u *upstream) requests(t *testing.T, skip int) []request {
	t.Helper()
	f, err := os.Open(u.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []request
	for s := bufio.NewScanner(f); s.Scan(); {
		m := accessLine.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		status, _ := strconv.Atoi(m[3])
		size, _ := strconv.ParseInt(m[4], 10, 64)
		all = append(all, request{m[1], m[2], status, size})
	}
	return all[skip:]
}

// blobBytes adds up what the upstream sent of each blob.
func blobBytes(requests []request) map[string]int64 {
	sent := map[string]int64{}
	for _, r := range requests {
		if _, digest, ok := strings.Cut(r.path, "/blobs/"); ok && r.method == "GET" && r.status < 300 {
			sent[digest] += r.bytes
		}
	}
	return sent
}
