package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a self-signed certificate and its key into dir.
func writePair(t *testing.T, dir, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, kind string, der []byte) string {
		path := filepath.Join(dir, name+file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write(".crt", "CERTIFICATE", cert), write(".key", "PRIVATE KEY", der)
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	certA, keyA := writePair(t, dir, "a")
	_, keyB := writePair(t, dir, "b")
	load := func(ca, certificate, key string) error {
		_, err := load([]source{{"weir.yaml", fmt.Appendf(nil,
			"mirror: {upstreams: [{name: a.io, public: true, endpoints: [{url: https://a.io, ca: %s, certificate: %s, key: %s}]}]}",
			ca, certificate, key)}}, nowhere, nil)
		return err
	}
	if err := load(certA, certA, keyA); err != nil {
		t.Errorf("a good pair: %v", err)
	}
	const path = "weir.yaml:1: mirror.upstreams[0].endpoints[0]."
	if err := load(certA, certA, keyB); err == nil || !strings.HasPrefix(err.Error(), path+"certificate and key do not load: ") {
		t.Errorf("another's key: %v", err)
	}
	if err := load(keyA, certA, keyA); err == nil || err.Error() != path+"ca is "+keyA+": there is no certificate in it" {
		t.Errorf("a key as authority: %v", err)
	}
}
