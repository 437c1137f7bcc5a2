package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
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

const (
	// glance is how often, at most, the files of a Trust are looked at.
	glance = time.Second
	// still is how long a file must not have changed before it is read: it may be
	// half-written, and a certificate and its key are two.
	still = 100 * time.Millisecond
)

// Files is a Trust in PEM files, each "" if there is none: authorities that are
// believed besides the system's, a certificate and its key. A change of a file
// counts from the next request on; while they do not go together the last good ones
// go on.
type Files struct {
	ca, certificate, key string
	failed               func(error)
	now                  func() time.Time

	mu     sync.Mutex
	trust  *Trust
	seen   signature
	looked time.Time
}

// signature is what files look like.
type signature [3]struct {
	size    int64
	changed time.Time
}

// OpenFiles reads the files. failed is told once per change why changed ones are
// not used. Errors: those of the files, with their names.
func OpenFiles(ca, certificate, key string, failed func(error)) (*Files, error) {
	f := &Files{ca: ca, certificate: certificate, key: key, failed: failed, now: time.Now, looked: time.Now()}
	var err error
	if f.seen, _, err = f.look(); err != nil {
		return nil, err
	}
	if f.trust, err = f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// Trust gives what the files say; it is for [Options].
func (f *Files) Trust() *Trust {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if now.Sub(f.looked) < glance {
		return f.trust
	}
	f.looked = now
	seen, newest, err := f.look()
	if age := now.Sub(newest); err != nil || seen == f.seen || 0 <= age && age < still {
		return f.trust // one that is away is about to be replaced
	}
	f.seen = seen
	t, err := f.read()
	if err != nil {
		f.failed(err)
		return f.trust
	}
	f.trust = t
	return t
}

func (f *Files) look() (s signature, newest time.Time, err error) {
	for i, name := range []string{f.ca, f.certificate, f.key} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return s, newest, err
		}
		s[i].size, s[i].changed = info.Size(), info.ModTime()
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return s, newest, nil
}

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
