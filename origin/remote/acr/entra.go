package acr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/weir-registry/weir/origin/remote/egress"
)

const (
	audience  = "https://containerregistry.azure.net"
	authority = "https://login.microsoftonline.com/"
	metadata  = "http://169.254.169.254"
	assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// entra gets tokens of Entra ID.
type entra struct {
	client func(u *url.URL, proxied bool) *egress.Client
	env    func(string) (string, bool)
}

// get gives a variable, or what stands for one that is not set or empty.
func (e entra) get(name, otherwise string) string {
	if value, ok := e.env(name); ok && value != "" {
		return value
	}
	return otherwise
}

// token gets an access token for registries.
func (e entra) token(ctx context.Context) (string, error) {
	id, tenant := e.get("AZURE_CLIENT_ID", ""), e.get("AZURE_TENANT_ID", "")
	if id == "" || tenant == "" {
		return e.managed(ctx, id)
	}
	if key := e.get("AZURE_CLIENT_SECRET", ""); key != "" {
		return e.granted(ctx, tenant, url.Values{"client_id": {id}, "client_secret": {key}})
	}
	if file := e.get("AZURE_FEDERATED_TOKEN_FILE", ""); file != "" {
		proof, err := os.ReadFile(file) // it changes every hour or so
		if err != nil {
			return "", err
		}
		return e.granted(ctx, tenant, url.Values{
			"client_id": {id}, "client_assertion_type": {assertion}, "client_assertion": {strings.TrimSpace(string(proof))},
		})
	}
	return e.managed(ctx, id)
}

// granted asks the authority (client credentials, RFC 6749, 4.4).
func (e entra) granted(ctx context.Context, tenant string, form url.Values) (string, error) {
	at, err := parse(e.get("AZURE_AUTHORITY_HOST", authority))
	if err != nil {
		return "", fmt.Errorf("AZURE_AUTHORITY_HOST: %w", err)
	}
	form.Set("grant_type", "client_credentials")
	form.Set("scope", audience+"/.default")
	return e.read(ctx, true, egress.Form(at.JoinPath(url.PathEscape(tenant), "oauth2", "v2.0", "token"), form))
}

// managed asks the machine's metadata server.
func (e entra) managed(ctx context.Context, id string) (string, error) {
	at, err := parse(e.get("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata))
	if err != nil {
		return "", fmt.Errorf("AZURE_POD_IDENTITY_AUTHORITY_HOST: %w", err)
	}
	at = at.JoinPath("metadata", "identity", "oauth2", "token")
	q := url.Values{"api-version": {"2018-02-01"}, "resource": {audience}}
	if id != "" {
		q.Set("client_id", id)
	}
	at.RawQuery = q.Encode()
	return e.read(ctx, false, egress.Request{URL: at, Header: http.Header{"Metadata": {"true"}}})
}

func (e entra) read(ctx context.Context, proxied bool, q egress.Request) (string, error) {
	c := e.client(q.URL, proxied)
	defer c.Close() // it is for one request in an hour
	var said struct {
		AccessToken string `json:"access_token"`
	}
	if err := ask(ctx, c, q, &said); err != nil {
		return "", err
	}
	if said.AccessToken == "" {
		return "", errors.New("an answer without a token")
	}
	return said.AccessToken, nil
}

func parse(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("not an http or https URL with a host")
	}
	u.Path = cmp.Or(u.Path, "/")
	return u, nil
}
