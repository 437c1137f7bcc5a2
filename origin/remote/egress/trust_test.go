package egress_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-registry/weir/origin/remote/egress"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	cert, key := a.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.certificate, a.key = cert, key
	return a
}

func (a *authority) issue(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a.serial++
	c.SerialNumber, c.NotAfter = big.NewInt(a.serial), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(t *testing.T, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// put replaces a file as Kubernetes does, with one that changed at that time.
func put(t *testing.T, file string, changed time.Time, b []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file+".new", changed, changed); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// CA, certificate and key are those of the files, from the next request on once they
// changed; those that do not go together do not count.
func TestFilesThatChange(t *testing.T) {
	servers, clients := newAuthority(t, "servers"), newAuthority(t, "clients")
	others := newAuthority(t, "others")
	serve := func(a *authority) tls.Certificate {
		c, k := a.issue(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
		return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: k}
	}
	served := serve(servers)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	pool := x509.NewCertPool()
	pool.AddCert(clients.certificate)
	s.TLS = &tls.Config{
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &served, nil },
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	s.TLS.Certificates = nil

	now, dir := time.Now(), t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair := func(name string) (certificate, key []byte) {
		c, k := clients.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		return certPEM(c), keyPEM(t, k)
	}
	firstCert, firstKey := pair("first")
	put(t, ca, now.Add(-time.Hour), certPEM(servers.certificate))
	put(t, cert, now.Add(-time.Hour), firstCert)
	put(t, key, now.Add(-time.Hour), firstKey)
	var failed []error
	files, err := egress.OpenFiles(ca, cert, key, func(err error) { failed = append(failed, err) })
	if err != nil {
		t.Fatal(err)
	}
	c := egress.New(egress.Options{URL: parsed(t, s.URL), Trust: files.Trust})
	defer c.Close()
	want := func(name string) {
		t.Helper()
		files.Look(now)
		a, err := c.Follow(t.Context(), egress.Request{URL: parsed(t, s.URL+"/")}, egress.Secret{})
		if err != nil {
			if name != "" {
				t.Errorf("wanted %s: %v", name, err)
			}
			return
		}
		defer a.Discard()
		b, err := io.ReadAll(a.Body)
		if err != nil || string(b) != name {
			t.Errorf("known as %q, want %q, %v", b, name, err)
		}
	}
	want("first")
	secondCert, secondKey := pair("second")
	put(t, cert, now.Add(-time.Minute), secondCert) // and its key is not there yet
	want("first")
	if len(failed) != 1 {
		t.Errorf("told of %v", failed)
	}
	want("first")
	put(t, key, now.Add(-time.Minute), secondKey)
	want("second")
	if len(failed) != 1 {
		t.Errorf("told of %v", failed)
	}
	put(t, cert, now.Add(-time.Millisecond), []byte("half-writ"))
	want("second") // it is too new to be read
	if len(failed) != 1 {
		t.Errorf("told of %v", failed)
	}
	put(t, cert, now.Add(-time.Second), secondCert)
	want("second")

	// Nobody believes the old authority any more, not even for a connection that is
	// there already.
	put(t, ca, now.Add(-time.Second), certPEM(others.certificate))
	want("")
	served = serve(others)
	want("second")
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	want("second")
}

func TestFilesThatDoNotLoad(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.pem")
	put(t, bad, time.Now(), []byte("nothing"))
	for _, f := range [][3]string{{bad}, {"/nonexistent"}, {"", bad, bad}, {"", "/nonexistent", bad}} {
		if _, err := egress.OpenFiles(f[0], f[1], f[2], func(error) {}); err == nil {
			t.Errorf("%q load", f)
		}
	}
	none, err := egress.OpenFiles("", "", "", func(error) {})
	if err != nil || *none.Trust() != (egress.Trust{}) {
		t.Errorf("%+v, %v", none.Trust(), err)
	}
}
