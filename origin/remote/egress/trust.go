package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/weir-registry/weir/store/watch"
)

// Trust is whose certificates a client believes, and which one it shows. It does
// not change; another Trust is another pointer.
type Trust struct {
	// CA are the roots that certificates are checked against, those of hosts that a
	// client is led to included; nil = the system's.
	CA *x509.CertPool
	// Certificate is shown to the client's own host, and to no other.
	Certificate *tls.Certificate
}

// Always is a Trust that stays.
func Always(t *Trust) func() *Trust { return func() *Trust { return t } }

// Files is a Trust in PEM files, each "" if there is none: authorities that are
// believed besides the system's, a certificate and its key. A change of a file
// counts from the next request on; while they do not go together the last good ones
// go on.
type Files struct {
	ca, certificate, key string
	watched              *watch.Files[*Trust]
}

// OpenFiles reads the files. failed is told once per change why changed ones are
// not used. Errors: those of the files, with their names.
func OpenFiles(ca, certificate, key string, failed func(error)) (*Files, error) {
	f := &Files{ca: ca, certificate: certificate, key: key}
	var err error
	f.watched, err = watch.Open([]string{ca, certificate, key}, f.read, failed)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Trust gives what the files say; it is for [Options].
func (f *Files) Trust() *Trust { return f.watched.Value() }

func (f *Files) read() (*Trust, error) {
	t := &Trust{}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, err
		}
		// Redirects lead to CDNs, whose certificates are the public ones.
		if t.CA, err = x509.SystemCertPool(); err != nil {
			return nil, err
		}
		if !t.CA.AppendCertsFromPEM(pem) {
			return nil, &fs.PathError{Op: "read", Path: f.ca, Err: errors.New("no certificate in it")}
		}
	}
	if f.certificate != "" {
		pair, err := tls.LoadX509KeyPair(f.certificate, f.key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", f.certificate, f.key, err)
		}
		t.Certificate = &pair
	}
	return t, nil
}
