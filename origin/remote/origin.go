package remote

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/weir-registry/weir/origin"
	"github.com/weir-registry/weir/origin/remote/egress"
)

// Origin is a registry at an endpoint that takes writes too. A [Registry] has no
// method that writes, so that nothing can be sent to an upstream by mistake.
//
// Its writes are those of OCI Distribution 1.1, and all that an endpoint needs to know
// is asked as it is refused: one without deletions, mounts or an API of referrers is
// used for what it has.
type Origin struct {
	*Registry
	sessions *sessions
	indexes  locks // of the tags that stand in for the API of referrers

	farewell context.Context // of what ends uploads that nobody waits for
	hurry    context.CancelFunc
	leaving  sync.WaitGroup
}

var _ origin.Registry = (*Origin)(nil)

// NewOrigin is the registry at an endpoint, for reading and writing. Errors: as New.
func NewOrigin(options Options) (*Origin, error) {
	r, err := New(options)
	if err != nil {
		return nil, err
	}
	o := &Origin{Registry: r, sessions: newSessions()}
	o.farewell, o.hurry = context.WithCancel(context.Background())
	return o, nil
}

// Close ends the uploads that nobody has ended, and lets go of the connections that
// are not in use.
func (o *Origin) Close() {
	o.sessions.close()
	o.hurry()
	o.leaving.Wait()
	o.Registry.Close()
}

// pushing is the scope that it takes to push to a repository, and to read what is
// mounted from others.
func (o *Origin) pushing(repo origin.Repo, from ...origin.Repo) string {
	scopes := []string{"repository:" + o.name(repo) + ":pull,push"}
	for _, f := range from {
		scopes = append(scopes, "repository:"+o.name(f)+":pull")
	}
	return strings.Join(scopes, " ")
}

// write sends a request that changes something, and gives its answer if the status is
// one of those wanted. Only what goes to the endpoint itself carries its credentials.
func (o *Origin) write(ctx context.Context, scope string, q egress.Request, wanted ...int) (*answer, error) {
	var (
		a   *answer
		err error
	)
	if o.out.Own(q.URL) {
		a, err = o.askAs(ctx, scope, q)
	} else {
		a, err = follow(ctx, o.out, q, egress.Secret{})
	}
	if err != nil {
		return nil, err
	}
	if slices.Contains(wanted, a.StatusCode) {
		return a, nil
	}
	defer a.Discard()
	if a.StatusCode < http.StatusBadRequest {
		return nil, wrongAnswer("%s is answered with status %d", q.Method, a.StatusCode)
	}
	return nil, a.refusal()
}
