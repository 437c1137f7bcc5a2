package local

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

const (
	ingestID = 32 // hex digits of a store's ingest id
	macLen   = 16 // bytes that are kept of the id's HMAC-SHA256
)

// Upload implements origin.Writer. The id that a client sees is the store's, and
// behind it a MAC of that, the repository and who asks: a session belongs to its
// repository and to whoever began it, without a record that says so, and another
// one's id is as unknown as a random one.
//
// A commit that finds another digest ends the session and leaves nothing behind.
func (r *Registry) Upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm) (store.Ingest, error) {
	return r.upload(ctx, repo, id, alg, pushed)
}

func (r *Registry) upload(ctx context.Context, repo origin.Repo, id string, alg digest.Algorithm, m mark) (store.Ingest, error) {
	key, err := r.signingKey(ctx)
	if err != nil {
		return nil, err
	}
	var inner, who string
	if p := origin.RequestOf(ctx).Principal; p != nil {
		who = p.String()
	}
	if id == "" {
		if alg != digest.SHA256 && alg != digest.SHA512 {
			return nil, origin.Errorf(origin.ErrUnsupported, "digest algorithm %s is neither sha256 nor sha512", origin.Quote(alg.String()))
		}
	} else {
		if len(id) != ingestID+2*macLen || !hmac.Equal([]byte(id), []byte(sessionID(key, id[:ingestID], repo, who))) {
			return nil, origin.ErrUploadUnknown
		}
		inner = id[:ingestID]
	}
	in, err := r.blobs.Ingest(ctx, inner, alg)
	if err != nil {
		return nil, uploadError(err)
	}
	u := &upload{ingest: in, registry: r, repo: repo, id: sessionID(key, in.ID(), repo, who), mark: m}
	u.renew(ctx)
	return u, nil
}

// sessionID signs a store's ingest id for a repository and whoever asks.
func sessionID(key []byte, id string, repo origin.Repo, who string) string {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(id + "\x00" + repo.String() + "\x00" + who)) // never fails
	return id + hex.EncodeToString(mac.Sum(nil)[:macLen])
}

// signingKey gives the key of session ids: made once for the store, by whichever
// process comes first.
func (r *Registry) signingKey(ctx context.Context) ([]byte, error) {
	r.signer.Lock()
	defer r.signer.Unlock()
	if r.signer.key != nil {
		return r.signer.key, nil
	}
	rec, err := r.records.Get(ctx, keyUploads)
	if errors.Is(err, store.ErrNotFound) {
		fresh := make([]byte, sha256.Size)
		_, _ = rand.Read(fresh) // never fails
		_, err = r.records.Put(ctx, keyUploads, []byte(hex.EncodeToString(fresh)), store.Absent())
		if err == nil || errors.Is(err, store.ErrConflict) {
			rec, err = r.records.Get(ctx, keyUploads)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("key of upload sessions: %w", err)
	}
	key, err := hex.DecodeString(string(rec.Data))
	if err != nil || len(key) != sha256.Size {
		return nil, fmt.Errorf("key of upload sessions: %w", errDamaged)
	}
	r.signer.key = key
	return key, nil
}

// upload is a store's ingest in the registry's terms.
type upload struct {
	ingest   store.Ingest
	registry *Registry
	repo     origin.Repo
	id       string
	mark     mark
	full     bool      // the store had no room for it
	renewed  time.Time // when the leases of its push were last looked at
}

// renew renews the leases of what was pushed before to the same repository.
func (u *upload) renew(ctx context.Context) {
	grace := u.registry.options().Grace
	if grace == 0 || u.mark == mirrored || time.Since(u.renewed) < grace/renewals {
		return
	}
	u.renewed = time.Now()
	u.registry.grant(ctx, u.repo)
}

func (u *upload) ID() string  { return u.id }
func (u *upload) Size() int64 { return u.ingest.Size() }

// Write implements io.Writer. What would make the blob too large is refused
// whole. Errors: ErrSizeInvalid.
func (u *upload) Write(p []byte) (int, error) {
	most := u.registry.options().MaxBlobSize
	if most > 0 && int64(len(p)) > most-u.ingest.Size() {
		return 0, origin.Errorf(origin.ErrSizeInvalid, "blob is larger than %d bytes", most).
			WithStatus(http.StatusRequestEntityTooLarge)
	}
	u.renew(context.Background()) // a Write has no context; it is done by the time of the next
	n, err := u.ingest.Write(p)
	if err != nil {
		u.full = u.full || store.NoRoom(err)
		return n, fmt.Errorf("upload to %s: %w", u.repo, err)
	}
	return n, nil
}

// Commit makes the blob readable in the repository. Errors: ErrDigestInvalid.
func (u *upload) Commit(ctx context.Context, d digest.Digest) (store.Info, error) {
	if _, err := origin.ParseDigest(d.String()); err != nil {
		return store.Info{}, err
	}
	defer u.registry.holdBlob(d)()
	info, err := u.ingest.Commit(ctx, d)
	if errors.Is(err, store.ErrDigest) {
		return store.Info{}, errors.Join(origin.Wrap(origin.ErrDigestInvalid, err), u.Cancel())
	}
	if err != nil {
		u.full = u.full || store.NoRoom(err)
		return store.Info{}, fmt.Errorf("commit blob %s to %s: %w", d, u.repo, err)
	}
	k := content{u.repo, d}
	if err := u.registry.link(ctx, k, u.mark); err != nil {
		return info, again(err)
	}
	if u.mark == pushed {
		u.registry.grants.add(k, u.registry.options().Grace)
	}
	return info, nil
}

// Close lets go of the upload, to be resumed; but one that there was no room for is
// dropped. Its client has been told so and gives up, and what it sent would keep the
// disk full until the upload expires.
func (u *upload) Close() error {
	if u.full {
		return u.Cancel()
	}
	if err := u.ingest.Close(); err != nil {
		return fmt.Errorf("upload to %s: %w", u.repo, err)
	}
	return nil
}

// Cancel drops the upload.
func (u *upload) Cancel() error {
	if err := u.ingest.Cancel(); err != nil {
		return fmt.Errorf("cancel upload to %s: %w", u.repo, err)
	}
	return nil
}

// uploadError gives a store's error the registry's meaning.
func uploadError(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return origin.Wrap(origin.ErrUploadUnknown, err)
	case errors.Is(err, store.ErrBusy):
		return origin.Wrap(origin.Errorf(origin.ErrUploadInvalid, "upload is in use by another request"), err)
	default:
		return fmt.Errorf("upload: %w", err)
	}
}

// Uploads implements origin.Inventory.
func (r *Registry) Uploads(ctx context.Context) iter.Seq2[store.IngestInfo, error] {
	return r.blobs.Ingests(ctx)
}

// Drop implements origin.Sweeper.
func (r *Registry) Drop(ctx context.Context, u store.IngestInfo) error {
	in, err := r.blobs.Ingest(ctx, u.ID, "")
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrBusy):
		return origin.ErrInUse // or it has ended
	case err != nil:
		return fmt.Errorf("drop upload: %w", err)
	case in.Size() != u.Size:
		return errors.Join(origin.ErrInUse, in.Close())
	}
	if err := in.Cancel(); err != nil {
		return fmt.Errorf("drop upload: %w", err)
	}
	return nil
}
