package guard

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/store"
)

// Locator says which repository a name leads to, and which upstream that is mirrored
// from; "" = none, it is local. It asks no upstream. write says that it is to be
// changed: a name that would be read through an upstream may be local for that.
type Locator func(ctx context.Context, repo origin.Repo, write bool) (full origin.Repo, upstream string, err error)

// Options are the circumstances of a Guard.
type Options struct {
	// Locate finds the name that decisions are about; nil: names are local as they stand.
	Locate Locator
	// Redirects says where a client may fetch a blob by itself; nil: nowhere.
	Redirects origin.Redirector
	// Challenge gives the WWW-Authenticate headers of a 401: how to ask again for what
	// needs that scope. lacking says that a token was shown which does not cover it.
	// nil: there are none.
	Challenge func(ctx context.Context, needs authz.Scope, lacking bool) []string
	// Refusal gives what a client is told of a denial, and what is logged for the
	// operator to do about it; each may be "". nil: both are.
	Refusal func(who authz.Identity, what authz.Access, err error) (message, remedy string)
	// Key, of KeySize bytes, seals where a page of a list has ended: guards of one key go on
	// with each other's lists. nil: this one has its own.
	Key []byte
	// Decided is told of each decision: allow, deny or error; nil: nobody is.
	Decided func(result string)
	// Log is told of denials with who asked and which rule denied: at info where that was
	// the last word, at debug where it was asked who they are, or something was left out of
	// a list; and of what could not be decided, at warn. nil: nobody is.
	Log *slog.Logger
}

// Guard is a registry that asks before it does what it is told.
type Guard struct {
	origin.None
	inner  origin.Registry
	rights authz.Authorizer
	opts   Options
	marks  *marks
}

var (
	_ origin.Registry   = (*Guard)(nil)
	_ origin.Admitter   = (*Guard)(nil)
	_ origin.Redirector = (*Guard)(nil)
)

// New puts a Guard before a registry.
func New(r origin.Registry, rights authz.Authorizer, o Options) *Guard {
	if o.Locate == nil {
		o.Locate = func(_ context.Context, repo origin.Repo, _ bool) (origin.Repo, string, error) { return repo, "", nil }
	}
	if o.Challenge == nil {
		o.Challenge = func(context.Context, authz.Scope, bool) []string { return nil }
	}
	if o.Refusal == nil {
		o.Refusal = func(authz.Identity, authz.Access, error) (string, string) { return "", "" }
	}
	if o.Decided == nil {
		o.Decided = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Guard{inner: r, rights: rights, opts: o, marks: newMarks(o.Key)}
}

// Who gives who asks in ctx; the zero Identity where nobody was asked.
func Who(ctx context.Context) authz.Identity {
	who, _ := origin.RequestOf(ctx).Principal.(authz.Identity)
	return who
}

// May reports whether whoever asks may do something to a repository: for those who then
// leave out of a list what they may not.
func (g *Guard) May(ctx context.Context, repo origin.Repo, what authz.Access) bool {
	return g.covered(ctx, repo, what, authz.Scope.AllowsListed)
}

// Can is May for those who act on it: a token for the catalog shows what is there, and is
// good for nothing of it.
func (g *Guard) Can(ctx context.Context, repo origin.Repo, what authz.Access) bool {
	return g.covered(ctx, repo, what, authz.Scope.Allows)
}

func (g *Guard) covered(ctx context.Context, repo origin.Repo, what authz.Access, by func(authz.Scope, authz.Access) bool) bool {
	what, err := g.about(ctx, repo, what)
	who := Who(ctx)
	return err == nil && by(who.Scope, what) && g.may(ctx, who, what) == nil
}

// Allow decides on an access to a repository, or to none (the zero Repo): for those
// who show or change something of a registry by another way than its methods.
// Errors: origin.ErrUnauthorized, origin.ErrDenied, and those of finding the name.
func (g *Guard) Allow(ctx context.Context, repo origin.Repo, what authz.Access) error {
	what, err := g.about(ctx, repo, what)
	if err != nil {
		return err
	}
	return g.decide(ctx, what)
}

// about completes an access with the names of what it is about.
func (g *Guard) about(ctx context.Context, repo origin.Repo, what authz.Access) (authz.Access, error) {
	if repo.IsZero() {
		return what, nil
	}
	full, upstream, err := g.opts.Locate(ctx, repo, what.Action == authz.Push)
	what.Repository, what.Upstream = full.String(), upstream
	return what, err
}

// decide answers a complete access.
func (g *Guard) decide(ctx context.Context, what authz.Access) error {
	who := Who(ctx)
	err := g.ask(ctx, who, what)
	if err == nil && who.Scope.Allows(what) {
		return nil
	}
	needs, request := authz.Needs(what), origin.RequestOf(ctx)
	if err == nil { // a new token would be granted it
		request.Challenge = g.opts.Challenge(ctx, needs, true)
		return origin.Errorf(origin.ErrUnauthorized, "the token's scope does not cover this").WithDetail(needs.String())
	}
	base, level := origin.ErrDenied, slog.LevelInfo
	if !who.Authenticated() {
		// Where nobody can say who they are, there is nothing to ask for.
		if request.Challenge = g.opts.Challenge(ctx, needs, false); len(request.Challenge) > 0 {
			base, level = origin.ErrUnauthorized, slog.LevelDebug // many clients try so first
		}
	}
	g.note(ctx, level, who, what, err)
	message, remedy := g.opts.Refusal(who, what, err)
	if remedy != "" {
		g.opts.Log.InfoContext(ctx, "refused", "identity", who.ID, "action", string(what.Action), "repository", what.Repository,
			"remedy", remedy, "trace_id", request.ID)
	}
	if message != "" {
		base = origin.Errorf(base, "%s", message)
	}
	return origin.Wrap(base, err)
}

// may asks the authorizer for those who then leave something out.
func (g *Guard) may(ctx context.Context, who authz.Identity, what authz.Access) error {
	err := g.ask(ctx, who, what)
	if err != nil {
		g.note(ctx, slog.LevelDebug, who, what, err)
	}
	return err
}

// ask asks the authorizer, and counts what it says.
func (g *Guard) ask(ctx context.Context, who authz.Identity, what authz.Access) error {
	what.Time = time.Now()
	err := g.rights.Authorize(ctx, who, what)
	result := "allow"
	if err != nil {
		result = "deny"
		if d, is := errors.AsType[*authz.Denial](err); !is || d.Cause != nil {
			result = "error"
		}
	}
	g.opts.Decided(result)
	return err
}

// note writes down a denial: at that level, or louder where nothing could be decided.
func (g *Guard) note(ctx context.Context, level slog.Level, who authz.Identity, what authz.Access, err error) {
	rule := ""
	d, is := errors.AsType[*authz.Denial](err)
	if is {
		rule = d.By
	}
	if (!is || d.Cause != nil) && ctx.Err() == nil {
		level = slog.LevelWarn
	}
	g.opts.Log.Log(ctx, level, "denied", "identity", who.ID, "action", string(what.Action), "operation", what.Operation,
		"repository", what.Repository, "rule", rule, "error", err.Error(), "trace_id", origin.RequestOf(ctx).ID)
}

// manifest is the access to a manifest.
func manifest(ref origin.Ref, operation string, action authz.Action) authz.Access {
	return authz.Access{Action: action, Operation: operation, Tag: ref.Tag(), Digest: ref.Digest().String()}
}

func blob(d digest.Digest, operation string, action authz.Action) authz.Access {
	return authz.Access{Action: action, Operation: operation, Digest: d.String()}
}

// Resolve implements origin.Reader.
func (g *Guard) Resolve(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Descriptor, error) {
	if err := g.Allow(ctx, repo, manifest(ref, "get-manifest", authz.Pull)); err != nil {
		return origin.Descriptor{}, err
	}
	return g.inner.Resolve(ctx, repo, ref)
}

// Manifest implements origin.Reader.
func (g *Guard) Manifest(ctx context.Context, repo origin.Repo, ref origin.Ref) (origin.Manifest, error) {
	if err := g.Allow(ctx, repo, manifest(ref, "get-manifest", authz.Pull)); err != nil {
		return origin.Manifest{}, err
	}
	return g.inner.Manifest(ctx, repo, ref)
}

// Stat implements origin.Reader.
func (g *Guard) Stat(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Descriptor, error) {
	if err := g.Allow(ctx, repo, blob(d, "get-blob", authz.Pull)); err != nil {
		return origin.Descriptor{}, err
	}
	return g.inner.Stat(ctx, repo, d)
}

// BlobURL implements origin.Redirector: an address is given to who may have the bytes.
func (g *Guard) BlobURL(ctx context.Context, repo origin.Repo, d digest.Digest) (origin.Redirect, bool, error) {
	if g.opts.Redirects == nil {
		return origin.Redirect{}, false, nil
	}
	if err := g.Allow(ctx, repo, blob(d, "get-blob", authz.Pull)); err != nil {
		return origin.Redirect{}, false, err
	}
	return g.opts.Redirects.BlobURL(ctx, repo, d)
}

// Blob implements origin.Reader.
func (g *Guard) Blob(ctx context.Context, repo origin.Repo, d digest.Digest, r store.Range) (origin.Blob, error) {
	if err := g.Allow(ctx, repo, blob(d, "get-blob", authz.Pull)); err != nil {
		return origin.Blob{}, err
	}
	return g.inner.Blob(ctx, repo, d, r)
}
