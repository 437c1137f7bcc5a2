package remotetest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
)

// Fault changes how a request is answered.
type Fault func(next http.Handler) http.Handler

// Fault lets all requests whose line (see [Request.String], without the range and
// the status) contains match be answered so, until undo is called. Of several
// faults that fit, the last one stands in front.
func (u *Upstream) Fault(match string, f Fault) (undo func()) {
	return u.arm(&armed{match: match, fault: f})
}

// OnBlob gives every request for a blob to f, which answers it and returns true,
// or returns false to leave it to the registry.
func (u *Upstream) OnBlob(f func(w http.ResponseWriter, r *http.Request) bool) (undo func()) {
	return u.Fault("/blobs/", Hook(f))
}

// OnManifest is OnBlob for manifests.
func (u *Upstream) OnManifest(f func(w http.ResponseWriter, r *http.Request) bool) (undo func()) {
	return u.Fault("/manifests/", Hook(f))
}

// Hook answers with f where f returns true.
func Hook(f func(w http.ResponseWriter, r *http.Request) bool) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !f(w, r) {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// Status answers with a status and an OCI error. The headers are keys and values
// in turn, e.g. Status(429, "Retry-After", "7").
func Status(status int, headers ...string) Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			refuse(w, status, "UNKNOWN")
		})
	}
}

// Redirect answers with a redirect.
func Redirect(location string) Fault {
	return func(http.Handler) http.Handler { return http.RedirectHandler(location, http.StatusTemporaryRedirect) }
}

// HTML answers with a web page and 200, as captive portals do.
func HTML() Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = fmt.Fprint(w, "<!DOCTYPE html><title>Welcome</title>")
		})
	}
}

// Gzip encodes what is answered.
func Gzip() Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			plain := httptest.NewRecorder()
			next.ServeHTTP(plain, r)
			var encoded bytes.Buffer
			z := gzip.NewWriter(&encoded)
			_, _ = z.Write(plain.Body.Bytes()) // a buffer takes all
			_ = z.Close()
			maps.Copy(w.Header(), plain.Header())
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Length", strconv.Itoa(encoded.Len()))
			w.WriteHeader(plain.Code)
			_, _ = w.Write(encoded.Bytes())
		})
	}
}

// Header sets a header of the answer, or takes it out ("").
func Header(key, value string) Fault {
	return altered(func(w *altering) {
		if value == "" {
			w.Header().Del(key)
		} else {
			w.Header().Set(key, value)
		}
	}, nil)
}

// AsRange answers as if that had been the Range header, whatever it was: another
// stretch than the one asked for, said honestly. Only what asks for a range is
// answered so.
func AsRange(header string) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				r = r.Clone(r.Context())
				r.Header.Set("Range", header)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// NoRanges answers a request for a range with 200 and all there is.
func NoRanges() Fault { return AsRange("") }

// LengthBy lies in Content-Length by that many bytes. One that is too long breaks
// the answer off where the body ends; one that is too short ends it, and the rest
// of the body does not come.
func LengthBy(by int64) Fault {
	declared := func(h http.Header) (int64, bool) {
		n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
		return n, err == nil
	}
	return altered(func(w *altering) {
		if n, ok := declared(w.Header()); ok {
			w.Header().Set("Content-Length", strconv.FormatInt(max(0, n+by), 10))
		}
	}, func(w *altering, b []byte) []byte {
		if n, ok := declared(w.Header()); ok {
			b = b[:min(int64(len(b)), max(0, n-w.sent))]
		}
		return b
	})
}

// WrongDigest lies in Docker-Content-Digest.
func WrongDigest() Fault {
	return Header("Docker-Content-Digest", "sha256:0000000000000000000000000000000000000000000000000000000000000000")
}

// NoLength answers without a Content-Length: in chunks.
func NoLength() Fault {
	return altered(func(w *altering) {
		w.Header().Del("Content-Length")
		w.flush = true
	}, nil)
}

// CloseDelimited answers without a Content-Length, and ends the body by closing
// the connection. To cut it short, arm a Cut before it.
func CloseDelimited() Fault {
	return altered(func(w *altering) {
		w.Header().Del("Content-Length")
		w.Header().Set("Transfer-Encoding", "identity")
	}, nil)
}

// Cut breaks off after n bytes of a body.
func Cut(n int64) Fault {
	return altered(nil, func(w *altering, b []byte) []byte {
		if left := n - w.sent; int64(len(b)) >= left {
			_, _ = w.ResponseWriter.Write(b[:max(0, left)])
			_ = http.NewResponseController(w.ResponseWriter).Flush()
			panic(http.ErrAbortHandler)
		}
		return b
	})
}

// Flip inverts the bits of the byte at an offset of the body.
func Flip(at int64) Fault {
	return altered(nil, func(w *altering, b []byte) []byte {
		if i := at - w.sent; 0 <= i && i < int64(len(b)) {
			b = bytes.Clone(b)
			b[i] ^= 0xff
		}
		return b
	})
}

// altered lets an answer through that is changed on its way: its header before it
// leaves, and each piece of its body.
func altered(header func(*altering), body func(w *altering, b []byte) []byte) Fault {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&altering{ResponseWriter: w, header: header, body: body}, r)
		})
	}
}

type altering struct {
	http.ResponseWriter
	header func(*altering)
	body   func(*altering, []byte) []byte
	begun  bool
	flush  bool // after the header
	sent   int64
}

func (w *altering) WriteHeader(status int) {
	if w.begun = true; w.header != nil {
		w.header(w)
	}
	w.ResponseWriter.WriteHeader(status)
	if w.flush {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
}

func (w *altering) Write(b []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	out := b
	if w.body != nil {
		out = w.body(w, b)
	}
	w.sent += int64(len(b))
	if len(out) == 0 {
		return len(b), nil
	}
	if _, err := w.ResponseWriter.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *altering) Unwrap() http.ResponseWriter { return w.ResponseWriter }
