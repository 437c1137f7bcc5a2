package oracletest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// session is an upload that is not finished.
type session struct {
	repo    origin.Repo
	id      string
	content []byte
	size    int64 // bytes that were acknowledged
	sure    bool  // nothing has failed: it must be there
}

// upload pushes a blob in so many chunks. An upload of several is at times left, to be
// resumed later.
func (w *Worker) upload(ctx context.Context, repo origin.Repo, content []byte, chunks int) error {
	alg := digest.SHA256
	if w.rnd.IntN(4) == 0 {
		alg = digest.SHA512 // than its digest is: the bytes are read again
	}
	in, err := w.reg.Upload(ctx, repo, "", alg)
	if err != nil {
		return failed(err)
	}
	s := &session{repo: repo, id: in.ID(), content: content, sure: true}
	return w.goOn(ctx, s, in, chunks)
}

// resume goes on with an upload that was left.
func (w *Worker) resume(ctx context.Context) error {
	if len(w.sessions) == 0 {
		return nil
	}
	i := w.rnd.IntN(len(w.sessions))
	s := w.sessions[i]
	w.sessions = slices.Delete(w.sessions, i, i+1)
	in, err := w.reopen(ctx, s)
	if in == nil {
		return err
	}
	return w.goOn(ctx, s, in, 1+w.rnd.IntN(2))
}

// reopen opens a session again. No ingest and no error: it is gone, or cannot be had
// now.
func (w *Worker) reopen(ctx context.Context, s *session) (store.Ingest, error) {
	in, err := w.reg.Upload(ctx, s.repo, s.id, "")
	switch {
	case errors.Is(err, origin.ErrUploadUnknown):
		if s.sure && !w.Lossy {
			return nil, fmt.Errorf("upload %s to %s with %d bytes is gone: %w", s.id, s.repo, s.size, err)
		}
		return nil, nil
	case errors.Is(err, origin.ErrUploadInvalid) && w.Lossy:
		w.sessions = append(w.sessions, s) // somebody looks whether it has expired
		return nil, nil
	case err != nil:
		w.sessions = append(w.sessions, s)
		return nil, failed(err)
	}
	size := in.Size()
	if size > int64(len(s.content)) || size < s.size && s.sure && !w.Lossy {
		return nil, errors.Join(fmt.Errorf("upload %s to %s has %d bytes, and %d were acknowledged", s.id, s.repo, size, s.size), in.Cancel())
	}
	s.size = size
	return in, nil
}

// goOn sends the rest of a session in so many chunks, and commits; or leaves it
// before that.
func (w *Worker) goOn(ctx context.Context, s *session, in store.Ingest, chunks int) error {
	for left := chunks; left > 1; left-- {
		rest := s.content[s.size:]
		n := len(rest) / left
		if s.size == 0 && n < 2 {
			// Over HTTP one byte looks like none.
			break
		}
		err := send(in, rest[:n])
		if err = errors.Join(err, in.Close()); err != nil {
			s.sure = false
			w.sessions = append(w.sessions, s)
			return failed(err)
		}
		s.size += int64(n)
		if w.rnd.IntN(3) == 0 {
			w.sessions = append(w.sessions, s)
			return nil
		}
		if in, err = w.reopen(ctx, s); in == nil {
			return err
		}
	}
	d := digest.FromBytes(s.content)
	var torn, gone bool
	op := Op{Kind: PushBlob, Repo: s.repo.String(), Digest: d}
	outcome, err := w.try(op, func() error {
		err := send(in, s.content[s.size:])
		if err == nil {
			var info store.Info
			info, err = in.Commit(ctx, d)
			if err == nil && (info.Digest != d || info.Size != int64(len(s.content))) {
				err = fmt.Errorf("commit answers with %+v", info)
			}
		}
		torn = errors.Is(err, origin.ErrDigestInvalid)
		gone = errors.Is(err, origin.ErrUploadUnknown) || errors.Is(err, origin.ErrUploadInvalid)
		if err != nil {
			err = errors.Join(err, in.Close())
		}
		return err
	})
	switch {
	case outcome == Unknown:
		s.sure = false
		w.sessions = append(w.sessions, s)
	case outcome == Refused && (w.Lossy && torn || gone && (w.Lossy || !s.sure)):
		return nil // its bytes were lost
	}
	return err
}

func send(in store.Ingest, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := in.Write(p)
	return err
}
