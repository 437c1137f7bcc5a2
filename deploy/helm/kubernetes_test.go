//go:build apiserver

package helm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/weir-registry/weir/deploy/helm/charttest"
)

// apiToken is the operator's, who may do everything.
const apiToken = "the-operators"

// apiServer is a real one, with an etcd of its own, and nothing that makes pods run.
type apiServer struct {
	url    string
	client *http.Client
	over   <-chan struct{} // closed when it has ended
}

func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	program := charttest.Tool(t, "kube-apiserver")
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	accounts := file("accounts.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	store, peer := "http://127.0.0.1:"+freePort(t), "http://127.0.0.1:"+freePort(t)
	server := "https://127.0.0.1:" + freePort(t)
	startServer(t, dir, "etcd", "etcd", "--data-dir", filepath.Join(dir, "etcd"),
		"--listen-client-urls", store, "--advertise-client-urls", store, "--listen-peer-urls", peer)
	s := &apiServer{url: server, client: &http.Client{Transport: &http.Transport{
		// Its certificate is its own, and it is on this machine.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.over = startServer(t, dir, "kube-apiserver", program,
		"--etcd-servers", store, "--bind-address", "127.0.0.1", "--secure-port", server[len("https://127.0.0.1:"):],
		"--cert-dir", filepath.Join(dir, "certificates"), "--authorization-mode", "RBAC",
		"--token-auth-file", file("tokens", apiToken+",operator,1,system:masters\n"),
		"--service-account-issuer", server, "--service-account-key-file", accounts, "--service-account-signing-key-file", accounts,
		"--service-cluster-ip-range", "10.0.0.0/24",
		// Nobody here makes the accounts that it would ask for.
		"--disable-admission-plugins", "ServiceAccount")
	s.ready(t, func() error {
		_, err := s.do(http.MethodGet, "/readyz", "", "")
		return err
	})
	return s
}

// ready waits until try succeeds, two minutes at most.
func (s *apiServer) ready(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-s.over:
			t.Fatal("the API server ended")
		case <-deadline.C:
			t.Fatalf("after two minutes: %v", err)
		case <-tick.C:
		}
	}
}

// startServer starts a program until the test ends.
func startServer(t *testing.T, dir, name, program string, args ...string) (over <-chan struct{}) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	// A test that is ended by force takes it along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ends is no matter
		close(ended)
	}()
	logOf(t, log.Name())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return ended
}

// freePort is a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
