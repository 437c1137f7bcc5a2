// Package gcr gets logins for the registries of Google Cloud: Artifact Registry and
// what is left of Container Registry.
//
// Who weir is comes from Google's application default credentials:
// GOOGLE_APPLICATION_CREDENTIALS, the file that gcloud writes, or the metadata
// server of the machine. They are looked at whenever a login is fetched, so that a
// key file that changes counts.
package gcr

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/weir-registry/weir/origin/remote/egress"
	"github.com/weir-registry/weir/origin/remote/login"
)

const (
	// scope is what a token must be good for; what it may do there is for IAM.
	scope = "https://www.googleapis.com/auth/cloud-platform"
	// username is who has an access token as a password.
	username = "oauth2accesstoken"
	patience = 10 * time.Second // for each request
)

// New is the login for Google's registries. All but the machine's metadata server is
// asked through transport; nil = the default one.
func New(transport http.RoundTripper) *login.Cache {
	// Some of that library asks without the context.
	client := &http.Client{Transport: transport, Timeout: patience}
	return login.NewCache(func(ctx context.Context) (login.Login, time.Time, error) {
		return fetch(context.WithValue(ctx, oauth2.HTTPClient, client))
	})
}

func fetch(ctx context.Context) (login.Login, time.Time, error) {
	found, err := google.FindDefaultCredentials(ctx, scope)
	if err != nil {
		return login.Login{}, time.Time{}, err
	}
	token, err := found.TokenSource.Token()
	if err != nil {
		return login.Login{}, time.Time{}, plain(err)
	}
	if token.AccessToken == "" {
		return login.Login{}, time.Time{}, errors.New("an answer of Google without a token")
	}
	return login.Login{Username: username, Password: egress.Conceal(token.AccessToken)}, token.Expiry, nil
}

// plain is an error without the answer that it came from: nobody knows what a
// server quotes.
func plain(err error) error {
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok && e.Response != nil {
		if e.ErrorCode != "" {
			return errors.New("status " + e.Response.Status + ": " + e.ErrorCode)
		}
		return errors.New("status " + e.Response.Status)
	}
	return err
}
