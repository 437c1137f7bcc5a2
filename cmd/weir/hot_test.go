package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin/observe/otlptest"
	"github.com/weir-registry/weir/origin/origintest"
	"github.com/weir-registry/weir/origin/remote/remotetest"
)

// traced gives what a process's command line begins with so that strace writes
// those calls to a file, and the file.
func traced(t *testing.T, calls string) (before []string, file string) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err) // make tools installs it
	}
	file = filepath.Join(t.TempDir(), "trace")
	// -D: the traced process is our child, and not strace.
	return []string{strace, "-D", "-f", "-q", "-yy", "-s", "0", "-e", "trace=" + calls, "-o", file}, file
}

// lines waits until the traced process is over, and gives its calls.
func lines(t *testing.T, file string) []string {
	t.Helper()
	var text []byte
	eventually(t, "the trace is complete", func() bool {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(text, []byte("+++ exited with 0 +++\n")) && bytes.HasSuffix(text, []byte("+++\n"))
	})
	var all []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		all = append(all, lines.Text())
	}
	return all
}

var (
	// moved is a call that moves bytes: its name, its first descriptor and, of a
	// sendfile, the second; how many. A call that another one interrupts ends on a
	// line of its own, without descriptors.
	moved = regexp.MustCompile(`^\d+ +(\w+)\(\d+<([^>]*(?:->[^>]*)?)>(?:, \d+<([^>]*)>)?.* = (\d+)$`)
	// The process and the file of a call that another process interrupts in the listing.
	unfinished = regexp.MustCompile(`^(\d+) +\w+\(\d+<([^>]*)>.*<unfinished`)
	resumed    = regexp.MustCompile(`^\d+ +<\.\.\. (\w+) resumed>.* = (\d+)$`)
)

// TestHotBlobsAreSentByTheKernel: in the whole program, through all that wraps a
// response, each byte of a blob that is there leaves by sendfile: of a local
// repository and of a mirrored one, whole and by range, also where requests are traced,
// decided on and counted. It is read once after a start, to be compared with its digest,
// and what is written to a connection is headers.
func TestHotBlobsAreSentByTheKernel(t *testing.T) {
	u := remotetest.New(t)
	data := origintest.Bytes(1, 3<<20+17)
	img := u.AddImage("library/nginx", "1.27", data)
	layer := img.Layers[0].Digest
	dir := t.TempDir()

	p := newProcess(t, dir, hub(u, ""))
	p.start()
	pullBlob(t, p, "docker.io/library/nginx", layer, "", "", data)
	eventually(t, "the fill ends", func() bool {
		return strings.Contains(string(textOf(t, p, "/v2/_ext/fills")), `"fills":[]`)
	})
	push(t, p, "team/app", data, layer)
	p.stop()

	t.Run("plain", func(t *testing.T) { sentByKernel(t, dir, hub(u, ""), "", layer, data) })
	t.Run("wrapped", func(t *testing.T) {
		receiver := otlptest.New(t)
		more := "authz: {policy: {default: deny, allow: [\"request.action == 'pull'\"]}}\ntracing: {endpoint: 'http://" + receiver.Address() + "'}\n"
		sentByKernel(t, dir, hub(u, "")+more, "max_concurrent_requests: 8, ", layer, data)
		if len(receiver.Spans()) == 0 {
			t.Error("nothing was traced")
		}
	})
}

// sentByKernel pulls a blob that is there from a weir so configured.
func sentByKernel(t *testing.T, dir, config, server string, layer digest.Digest, data []byte) {
	t.Helper()
	before, file := traced(t, "sendfile,read,write,readv,writev,pread64,pwrite64,preadv,pwritev,sendto,sendmsg,splice,copy_file_range,setsockopt")
	p := newProcess(t, dir, config, before...)
	text, err := os.ReadFile(p.file)
	if err == nil {
		err = os.WriteFile(p.file, bytes.Replace(text, []byte("server: {"), []byte("server: {"+server), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	var want int64
	for _, repo := range []string{"team/app", "docker.io/library/nginx"} {
		for asked, part := range map[string][]byte{"": data, "bytes=1000000-2999999": data[1_000_000:3_000_000], "bytes=5-": data[5:]} {
			cache := ""
			if repo != "team/app" {
				cache = "hit"
			}
			pullBlob(t, p, repo, layer, asked, cache, part)
			want += int64(len(part))
		}
	}
	p.stop()

	var sent, verified, largest int64
	var corked, uncorked int
	began := map[string]string{}
	for _, line := range lines(t, file) {
		if strings.Contains(line, "TCP_CORK, [1]") {
			corked++
		}
		if strings.Contains(line, "TCP_CORK, [0]") {
			uncorked++
		}
		name, from, to, n := "", "", "", ""
		if m := moved.FindStringSubmatch(line); m != nil {
			name, to, from, n = m[1], m[2], m[3], m[4]
		} else if m := resumed.FindStringSubmatch(line); m != nil {
			name, n, to = m[1], m[2], began[strings.Fields(line)[0]]
		} else {
			if m := unfinished.FindStringSubmatch(line); m != nil {
				began[m[1]] = m[2]
			}
			continue
		}
		bytes, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if name == "sendfile" {
			sent += bytes
			continue
		}
		if strings.Contains(to+from, "/blobs/") {
			verified += bytes
			continue
		}
		largest = max(largest, bytes)
	}
	// What lies there is compared with its digest once, whoever pulls it then.
	if verified != int64(len(data)) {
		t.Errorf("%d bytes of blobs were read, want %d", verified, len(data))
	}
	if sent != want {
		t.Errorf("%d bytes were sent by the kernel, want %d", sent, want)
	}
	// A header leaves with the first bytes of its blob.
	if corked != 6 || uncorked != 6 {
		t.Errorf("%d of 6 answers began as one packet, and %d were let go", corked, uncorked)
	}
	if largest > 16<<10 {
		t.Errorf("a call moved %d bytes through the program", largest)
	}
}

// pullBlob gets a blob, or a range of it, and compares.
func pullBlob(t *testing.T, p *process, repo string, d digest.Digest, asked, cache string, want []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.public+"/v2/"+repo+"/blobs/"+d.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if asked != "" {
		req.Header.Set("Range", asked)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, want) || cache != "" && resp.Header.Get("Weir-Cache") != cache {
		t.Errorf("%s %q: %s, %d bytes of %d, Weir-Cache %q, %v", repo, asked, resp.Status, len(got), len(want), resp.Header.Get("Weir-Cache"), err)
	}
}

func textOf(t *testing.T, p *process, path string) []byte {
	t.Helper()
	resp, err := p.client.Get("http://" + p.public + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// push pushes a blob in one request.
func push(t *testing.T, p *process, repo string, data []byte, d digest.Digest) {
	t.Helper()
	resp, err := p.client.Post("http://"+p.public+"/v2/"+repo+"/blobs/uploads/?digest="+d.String(), "application/octet-stream", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("push: %s", resp.Status)
	}
}

// TestHotBlobsAllocateAlike: a pull of 64 MiB does not allocate for each MiB, of a
// local repository and of a mirrored one.
func TestHotBlobsAllocateAlike(t *testing.T) {
	u := remotetest.New(t)
	small, large := make([]byte, 1<<20), make([]byte, 64<<20)
	img := u.AddImage("library/nginx", "1.27", small, large)
	r := start(t, "", hub(u, ""))
	for _, repo := range []string{"docker.io/library/nginx", "team/app"} {
		var allocs [2]float64
		for i, data := range [][]byte{small, large} {
			d := img.Layers[i].Digest
			path := "/v2/" + repo + "/blobs/" + d.String()
			if repo == "team/app" {
				if a := r.do(http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+d.String(), bytes.NewReader(data)); a.status != http.StatusCreated {
					t.Fatalf("push: %d", a.status)
				}
			} else {
				eventually(t, "it is kept", func() bool { return r.get(path).header.Get("Weir-Cache") == "hit" })
			}
			get := puller(t, strings.TrimPrefix(r.url, "http://"), path, int64(len(data)))
			// What the process does on the side counts, too: the least is the pull's own.
			allocs[i] = testing.AllocsPerRun(1, get)
			for range 4 {
				allocs[i] = min(allocs[i], testing.AllocsPerRun(1, get))
			}
		}
		// A longer answer has a timer or a garbage collection in it. One for each MiB would be
		// 63 more.
		if allocs[1] > allocs[0]+63/4 {
			t.Errorf("%s: %.0f allocations for 1 MiB, %.0f for 64 MiB", repo, allocs[0], allocs[1])
		}
	}
}

// puller gives what pulls a body of n bytes over one connection, and allocates
// nothing itself.
func puller(t *testing.T, addr, path string, n int64) func() {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: weir\r\n\r\n", path)
	end := []byte("\r\n\r\n")
	buf := make([]byte, 1<<20)
	return func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		var got, header int64
		for header == 0 || got < header+n {
			m, err := conn.Read(buf[min(got, int64(len(buf)/2)):])
			if err != nil {
				t.Fatal(err)
			}
			got += int64(m)
			if at := bytes.Index(buf[:min(got, int64(len(buf)))], end); header == 0 && at >= 0 {
				header = int64(at + len(end))
			}
		}
		if got != header+n {
			t.Fatalf("%d bytes, want %d", got, header+n)
		}
	}
}
