package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	largestDocument = 64 << 10 // of a discovery document
	largestSet      = 1 << 20  // of a set of keys
	wellKnown       = "/.well-known/openid-configuration"
)

// source is where the keys of an issuer are fetched. It is used by one fetch at a
// time.
type source struct {
	client     *http.Client
	issuer     string
	configured string // where the keys are; "" = it is to be discovered
	discovered string // where they are, as was said
	at         time.Time
}

func newSource(p Provider) *source {
	return &source{client: &http.Client{Transport: p.Transport}, issuer: p.Issuer, configured: p.JWKSURI}
}

// fetch gets the keys. Errors: what went wrong, naming the document; no URL.
func (s *source) fetch(ctx context.Context) (*set, error) {
	at := s.configured
	if at == "" {
		if s.discovered == "" || time.Since(s.at) >= day {
			if err := s.discover(ctx); err != nil {
				return nil, fmt.Errorf("discovery: %w", err)
			}
		}
		at = s.discovered
	}
	text, err := s.get(ctx, at, largestSet)
	if err == nil {
		var keys *set
		if keys, err = parseSet(text); err == nil {
			return keys, nil
		}
	}
	s.discovered = "" // they may have moved
	return nil, fmt.Errorf("keys: %w", err)
}

// discover asks the issuer where its keys are (OpenID Connect Discovery, 4).
func (s *source) discover(ctx context.Context) error {
	s.discovered = ""
	document, err := s.document(ctx)
	if err != nil {
		return err
	}
	at, err := s.place(document, "jwks_uri")
	if err != nil {
		return err
	}
	s.discovered, s.at = at, time.Now()
	return nil
}

// document gets what the issuer says of itself.
func (s *source) document(ctx context.Context) (map[string]any, error) {
	text, err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+wellKnown, largestDocument)
	if err != nil {
		return nil, err
	}
	document, err := object(text)
	if err != nil {
		return nil, errors.New("not a JSON object")
	}
	if document["issuer"] != s.issuer {
		return nil, errors.New("it is another issuer's document")
	}
	return document, nil
}

// place is a URL in a document of the issuer.
func (s *source) place(document map[string]any, name string) (string, error) {
	at, _ := document[name].(string)
	u, err := url.Parse(at)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("its %s is no URL to go to", name)
	case u.Scheme == "http" && !strings.HasPrefix(s.issuer, "http://"):
		return "", fmt.Errorf("its %s leads from https to http", name)
	}
	return at, nil
}

// get gets a document of at most so many bytes.
func (s *source) get(ctx context.Context, at string, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		// Where it was redirected to may be signed.
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // what counts was read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > most:
		return nil, fmt.Errorf("larger than %d bytes", most)
	}
	return text, nil
}
