package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/weir-registry/weir/authz/basic"
)

// A line of the access log says which route it was and who asked, also where tokens are
// given, and where nobody gets as far as a route.
func TestWhoIsLogged(t *testing.T) {
	data := t.TempDir()
	r := startText(t, data, fmt.Sprintf("log: {format: json}\nserver: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n"+
		"store: {blobs: {filesystem: {root: '%s'}}}\nmirror: {well_known: false}\nauthz: {basic: {users: [{name: ci, hash: '%s'}]}}\n",
		data, basic.NewHash("secret").Text()))
	login := []string{"Authorization", basicAuth("ci", "secret")}
	form := func(values url.Values, headers ...string) answer {
		return r.do(http.MethodPost, "/token", strings.NewReader(values.Encode()), append(headers, "Content-Type", "application/x-www-form-urlencoded")...)
	}
	refreshed := r.do(http.MethodGet, "/token?offline_token=true", nil, login...)
	var said struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(refreshed.body, &said); err != nil || said.Refresh == "" {
		t.Fatalf("%d %s", refreshed.status, refreshed.body)
	}
	for _, step := range []struct {
		got, want int
	}{
		{r.do(http.MethodGet, "/token", nil).status, 200},
		{r.do(http.MethodGet, "/token", nil, "Authorization", basicAuth("ci", "wrong")).status, 401},
		{form(url.Values{"grant_type": {"password"}, "client_id": {"x"}, "username": {"ci"}, "password": {"secret"}}).status, 200},
		{form(url.Values{"grant_type": {"refresh_token"}, "client_id": {"x"}, "refresh_token": {said.Refresh}}).status, 200},
		{form(url.Values{"grant_type": {"refresh_token"}, "client_id": {"x"}, "refresh_token": {"x.y.z"}}).status, 401},
		{form(url.Values{}, "Origin", "https://evil.example").status, 403},
		{r.do(http.MethodGet, "/v2/app/manifests/v1", nil, "Authorization", basicAuth("ci", "wrong")).status, 401},
		{r.do(http.MethodPatch, "/v2/app/blobs/uploads/x", nil, "Authorization", "Bearer x").status, 401},
		{r.do(http.MethodGet, "/v2/app/manifests/v1", nil, login...).status, 404},
		{r.do(http.MethodDelete, "/v2/app/manifests/v1", nil, "Sec-Fetch-Site", "cross-site").status, 403},
		{r.do(http.MethodGet, "/nothing", nil, "Authorization", "Bearer x").status, 401},
	} {
		if step.got != step.want {
			t.Errorf("%d, want %d", step.got, step.want)
		}
	}
	metrics := r.metrics()
	r.end()

	var lines []string
	for text := range strings.Lines(r.log.String()) {
		var line struct {
			Msg, Method, Route, Identity string
			Status                       int
		}
		if err := json.Unmarshal([]byte(text), &line); err == nil && line.Msg == "request" {
			lines = append(lines, fmt.Sprintf("%s %s %d %q", line.Method, line.Route, line.Status, line.Identity))
		}
	}
	want := []string{
		`GET /token 200 "basic:ci"`,
		`GET /token 200 ""`,
		`GET /token 401 ""`,
		`POST /token 200 "basic:ci"`,
		`POST /token 200 "basic:ci"`,
		`POST /token 401 ""`,
		`POST /token 403 ""`,
		`GET /v2/{name}/manifests/{reference} 401 ""`,
		`PATCH /v2/{name}/blobs/uploads/{id} 401 ""`,
		`GET /v2/{name}/manifests/{reference} 404 "basic:ci"`,
		`DELETE /v2/{name}/manifests/{reference} 403 ""`,
		`GET  401 ""`,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("logged\n\t%s\nwant\n\t%s", strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
	}
	for series, count := range map[string]string{
		`{method="basic",result="accepted"}`:  "3", // at /token by header and by form, and at a manifest
		`{method="basic",result="rejected"}`:  "2",
		`{method="token",result="accepted"}`:  "1",
		`{method="other",result="rejected"}`:  "1",
		`{method="bearer",result="rejected"}`: "2",
	} {
		if !strings.Contains(metrics, "weir_auth_attempts_total"+series+" "+count+"\n") {
			t.Errorf("not counted: %s %s", series, count)
		}
	}
}

func basicAuth(name, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, password)
	return r.Header.Get("Authorization")
}
