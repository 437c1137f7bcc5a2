package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"time"
)

//go:embed static
var staticFiles embed.FS

// static serves the files that pages load. Their addresses have a part of their digest in
// the query, so that browsers keep them for ever.
type static map[string]file

type file struct {
	content []byte
	sum     string
}

func newStatic() (static, error) {
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		return nil, fmt.Errorf("files of pages: %w", err)
	}
	s := static{}
	for _, e := range entries {
		content, err := staticFiles.ReadFile(path.Join("static", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("files of pages: %w", err)
		}
		sum := sha256.Sum256(content)
		s[e.Name()] = file{content, hex.EncodeToString(sum[:6])}
	}
	return s, nil
}

// address is where a file is.
func (s static) address(name string) (string, error) {
	f, ok := s[name]
	if !ok {
		return "", fmt.Errorf("no file %s", name)
	}
	return Root + "static/" + name + "?v=" + f.sum, nil
}

// ServeHTTP implements http.Handler.
func (s static) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	f, ok := s[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.URL.Query().Get("v") == f.sum {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if path.Ext(name) == "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.content))
}
