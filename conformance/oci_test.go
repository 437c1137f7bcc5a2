//go:build conformance

package conformance

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-registry/weir/store/coord/coordtest"
	"github.com/weir-registry/weir/store/s3/s3test"
)

// ociSwitches turns on every part of the suite that a complete registry can pass.
//
// One is left off: OCI_DATA_SPARSE pushes manifests whose blobs never come. The
// specification lets a registry refuse these, and weir does: what it stores can
// be pulled.
var ociSwitches = []string{
	"OCI_API_PULL", "OCI_API_PUSH",
	"OCI_API_BLOBS_ATOMIC", "OCI_API_BLOBS_DELETE", "OCI_API_BLOBS_DIGEST_HEADER",
	"OCI_API_BLOBS_MOUNT_ANONYMOUS", "OCI_API_BLOBS_UPLOAD_CANCEL",
	"OCI_API_MANIFESTS_ATOMIC", "OCI_API_MANIFESTS_DELETE", "OCI_API_MANIFESTS_DIGEST_HEADER", "OCI_API_MANIFESTS_TAG_PARAM",
	"OCI_API_TAGS_ATOMIC", "OCI_API_TAGS_DELETE", "OCI_API_TAGS_LIST", "OCI_API_REFERRER",
	"OCI_DATA_IMAGE", "OCI_DATA_INDEX", "OCI_DATA_INDEX_LIST", "OCI_DATA_ARTIFACT", "OCI_DATA_SUBJECT",
	"OCI_DATA_SUBJECT_MISSING", "OCI_DATA_ARTIFACT_LIST", "OCI_DATA_SUBJECT_LIST", "OCI_DATA_DATA_FIELD",
	"OCI_DATA_NONDISTRIBUTABLE", "OCI_DATA_CUSTOM_FIELDS", "OCI_DATA_NO_LAYERS", "OCI_DATA_EMPTY_BLOB", "OCI_DATA_SHA512",
}

// noUpstreams is a registry that mirrors nothing.
const noUpstreams = "mirror: {well_known: false, upstreams: []}"

// TestOCI runs the suite of the Open Container Initiative against the binary. Its
// exit status alone is no proof: what a registry answers as unsupported is
// skipped there, and a run that ends early has no failures.
func TestOCI(t *testing.T) {
	w := startWeir(t, t.TempDir(), noUpstreams)
	runOCI(t, "disk", w.addr)
}

// TestOCIOnS3 runs it with blobs and metadata in a bucket, and blobs from weir itself: the
// suite wants Docker-Content-Digest of whoever gives it the bytes, which no bucket has.
func TestOCIOnS3(t *testing.T) {
	server := s3test.Start(t)
	w := startWeirOn(t, freeAddr(t), "", "{blobs: "+bucketOf(server, server.Bucket(t))+"}", noUpstreams)
	runOCI(t, "s3", w.addr)
}

// TestOCIOnReplicas runs it with two weirs over one bucket and one Redis, of which each
// answers every other request: also an upload's next chunk, and a read of what was just
// written at the other one.
func TestOCIOnReplicas(t *testing.T) {
	server, redis := s3test.Start(t), coordtest.Start(t)
	bucket := bucketOf(server, server.Bucket(t))
	var replicas []*url.URL
	for range 2 {
		addr := freeAddr(t)
		startWeirOn(t, addr, "", fmt.Sprintf("{blobs: %s, redis: {url: '%s', advertise: 'http://%s'}}", bucket, redis.URL(), addr), noUpstreams)
		replicas = append(replicas, &url.URL{Scheme: "http", Host: addr})
	}
	var asked atomic.Uint64
	inTurn := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(replicas[asked.Add(1)%2])
			r.Out.Host = r.In.Host // of which addresses in answers are made
		},
		ModifyResponse: func(a *http.Response) error {
			if a.Request.Method != http.MethodDelete || a.StatusCode != http.StatusAccepted {
				return nil
			}
			for _, replica := range replicas {
				if err := gone(a.Request.Context(), replica.JoinPath(a.Request.URL.Path).String()); err != nil {
					return err
				}
			}
			return nil
		},
	})
	t.Cleanup(inTurn.Close)
	runOCI(t, "replicas", inTurn.Listener.Addr().String())
}

// gone waits until a replica knows that what is there was deleted, which may take it a
// second: the suite asks at once.
func gone(ctx context.Context, at string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, at, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusNotFound {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bucketOf is the configuration of a bucket of a server.
func bucketOf(server *s3test.Server, name string) string {
	return fmt.Sprintf("{s3: {bucket: %s, endpoint: '%s', path_style: true, access_key_id: %s, secret_access_key: %s}}",
		name, server.URL, s3test.AccessKey, s3test.SecretKey)
}

// runOCI runs the suite against the registry at an address; where names its report.
func runOCI(t *testing.T, where, addr string) {
	suite := tool(t, "conformance")
	for _, c := range []struct {
		version string
		passed  int // at least
		skipped int // at most
	}{
		// All there is at this version of the suite: 986 of 986.
		{version: "1.1", passed: 986, skipped: 0},
		{version: "dev", passed: 986, skipped: 0},
	} {
		t.Run(c.version, func(t *testing.T) {
			out, err := filepath.Abs(filepath.Join("out", where, c.version))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o755)); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), suite)
			cmd.Dir = out // it reads a configuration file of its own from where it stands
			cmd.Env = []string{
				"HOME=" + out, "PATH=" + os.Getenv("PATH"),
				"OCI_REGISTRY=" + addr, "OCI_TLS=disabled", "OCI_VERSION=" + c.version,
				"OCI_REPO1=conformance/a" + c.version, "OCI_REPO2=conformance/b" + c.version,
				"OCI_RESULTS_DIR=" + out, "OCI_LOG=warn",
			}
			for _, s := range ociSwitches {
				cmd.Env = append(cmd.Env, s+"=true")
			}
			said, runErr := cmd.CombinedOutput()
			text, err := os.ReadFile(filepath.Join(out, "junit.xml"))
			if err != nil {
				t.Fatalf("the suite left no result: %v, %v\n%s", runErr, err, said)
			}
			got, err := parseJUnit(text)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("OCI %s: %s", c.version, got)
			for _, f := range got.failures {
				t.Error(f)
			}
			if got.failed > 0 || runErr != nil {
				t.Errorf("%d failed (%v); the whole report is in conformance/out/%s/%s/report.html", got.failed, runErr, where, c.version)
			}
			if got.skipped > c.skipped {
				t.Errorf("%d skipped, at most %d may be: %v", got.skipped, c.skipped, got.skips)
			}
			if got.disabled > 0 {
				t.Errorf("%d disabled, though every switch is on", got.disabled)
			}
			if got.passed < c.passed {
				t.Errorf("%d passed, at least %d must", got.passed, c.passed)
			}
		})
	}
}

// tally is what a run of the suite came to.
type tally struct {
	passed, failed, skipped, disabled int
	failures, skips                   []string
}

func (c tally) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped, %d disabled", c.passed, c.failed, c.skipped, c.disabled)
}

// parseJUnit reads the suite's own totals (it counts every API that a case used,
// so they are more than its cases) and says what failed and what was skipped.
func parseJUnit(text []byte) (tally, error) {
	var doc struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
		Disabled int `xml:"disabled,attr"`
		Suites   []struct {
			Cases []struct {
				Name    string `xml:"name,attr"`
				Status  string `xml:"status,attr"`
				Verdict string `xml:"system-out"`
				Wire    string `xml:"system-err"` // the requests and answers
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &doc); err != nil {
		return tally{}, fmt.Errorf("junit.xml: %w", err)
	}
	c := tally{failed: doc.Failures + doc.Errors, skipped: doc.Skipped, disabled: doc.Disabled}
	c.passed = doc.Tests - c.failed - c.skipped - c.disabled
	for _, s := range doc.Suites {
		for _, k := range s.Cases {
			what := k.Name + ": " + strings.TrimSpace(k.Verdict)
			switch k.Status {
			case "failure", "error":
				c.failures = append(c.failures, what+"\n"+k.Wire)
			case "skipped":
				c.skips = append(c.skips, what)
			}
		}
	}
	if len(c.failures) > c.failed {
		return c, fmt.Errorf("junit.xml counts %d failures and names %d", c.failed, len(c.failures))
	}
	return c, nil
}
