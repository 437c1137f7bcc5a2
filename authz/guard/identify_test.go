package guard_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/weir-registry/weir/authz"
	"github.com/weir-registry/weir/authz/guard"
	"github.com/weir-registry/weir/origin"
)

// says is an Authenticator that always says the same.
type says struct {
	who authz.Identity
	err error
}

func (s says) Authenticate(*http.Request) (authz.Identity, error) { return s.who, s.err }

// TestIdentify: who is known goes on, and is known behind; who shows what nobody
// accepts is nobody here, and never taken for one who showed nothing.
func TestIdentify(t *testing.T) {
	ann := authz.Identity{ID: "oidc:x:ann", Method: authz.MethodOIDC}
	for name, x := range map[string]struct {
		says        says
		credentials string
		status      int
		retry       bool
		counted     []string
	}{
		"somebody":             {says{who: ann}, "Bearer x", 200, false, []string{"oidc accepted"}},
		"nobody":               {says{who: authz.Identity{Method: authz.MethodNone}}, "", 200, false, nil},
		"a password":           {says{err: authz.ErrRejected}, "Basic eDp5", 401, false, []string{"basic rejected"}},
		"a token":              {says{err: authz.ErrRejected}, "bearer x", 401, false, []string{"bearer rejected"}},
		"something":            {says{err: authz.ErrRejected}, "Negotiate x", 401, false, []string{"other rejected"}},
		"a failure":            {says{err: errors.New("broken")}, "Basic eDp5", 401, false, []string{"basic rejected"}},
		"the provider is away": {says{err: authz.ErrUnavailable}, "Bearer x", 503, true, []string{"bearer error"}},
	} {
		t.Run(name, func(t *testing.T) {
			var counted []string
			var behind any
			h := guard.Identify(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { behind = guard.Who(r.Context()).ID }), guard.IdentifyOptions{
				Authenticator: x.says,
				Client:        func(*http.Request) authz.Client { return authz.Client{Local: true} },
				Challenge:     func(context.Context) []string { return []string{"Basic"} },
				Fail: func(w http.ResponseWriter, r *http.Request, err error) {
					e, ok := errors.AsType[*origin.Error](err)
					if !ok {
						t.Fatal(err)
					}
					w.WriteHeader(e.HTTPStatus())
				},
				Attempted: func(method, result string) { counted = append(counted, method+" "+result) },
			})
			request := &origin.Request{}
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.Header.Set("Authorization", x.credentials)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(origin.WithRequest(r.Context(), request)))
			if w.Code != x.status || w.Header().Get("Retry-After") != "" != x.retry || !slices.Equal(counted, x.counted) {
				t.Errorf("%d %v, counted %q", w.Code, w.Header(), counted)
			}
			if through := behind != nil; through != (x.status == 200) || through && behind != x.says.who.ID {
				t.Errorf("behind is %v", behind)
			}
			if asked := request.Challenge != nil; asked != (x.status == 401) {
				t.Errorf("challenge %q", request.Challenge)
			}
		})
	}
}

// TestLevel: what an operator has to know is said loudly, and what comes a thousand
// times a second is not.
func TestLevel(t *testing.T) {
	for err, want := range map[error]slog.Level{
		authz.ErrRejected:                                   slog.LevelDebug,
		authz.ErrNone:                                       slog.LevelDebug,
		authz.ErrBusy:                                       slog.LevelDebug,
		fmt.Errorf("basic: %w", authz.ErrBusy):              slog.LevelDebug,
		fmt.Errorf("%w: key", authz.ErrUnavailable):         slog.LevelWarn,
		errors.Join(authz.ErrUnavailable, context.Canceled): slog.LevelWarn,
	} {
		if got := guard.Level(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
